// Steps with tensors, lists and arrays.
#include "tests/fuzz/aclnn_machine.h"

namespace fuzz {

bool has_core_dtype(aclDataType dtype) {
  return dtype == ACL_FLOAT || dtype == ACL_FLOAT16 || dtype == ACL_BF16;
}

Descriptor Machine::descriptor() {
  static const aclDataType kTypes[] = {ACL_FLOAT, ACL_FLOAT16, ACL_BF16};
  static const Shape kShapes[] = {{6, 4}, {}, {4}, {24}, {6, 1}, {0, 4}, {1, 6, 4}};
  Descriptor d;
  const int how = in_.byte();
  d.dtype = how % 16 == 15 ? static_cast<aclDataType>(in_.signed_byte()) : kTypes[how % 8 < 6 ? 0 : how % 3];
  d.shape = in_.byte() < 160 ? kShapes[0] : in_.pick(kShapes);
  d.storage = d.shape;
  d.plain = how < 160 && has_core_dtype(d.dtype);
  if (how < 160) return d;
  d.offset = in_.signed_byte() / 8;
  // The storage's size is what the memory holds. Everything else may be wrong.
  d.storage = {in_.below(static_cast<int>(kStorage / 8) + 1)};
  if (how >= 200) {
    d.strides.clear();
    for (size_t k = 0; k < d.shape.size(); ++k) d.strides.push_back(in_.signed_byte() / 8);
  }
  if (how >= 240) {
    d.shape.assign(static_cast<size_t>(in_.below(11)), 0);
    d.strides.clear();
    for (int64_t& extent : d.shape) {
      extent = in_.byte() < 200 ? in_.signed_byte() / 16 : static_cast<int64_t>(in_.word() >> in_.below(64));
      d.strides.push_back(in_.byte() < 200 ? in_.signed_byte() : static_cast<int64_t>(in_.word()));
    }
    if (in_.byte() >= 200) d.offset = static_cast<int64_t>(in_.word());
  }
  return d;
}

namespace {

bool creatable(const Descriptor& d) {
  return std::all_of(d.shape.begin(), d.shape.end(), [](int64_t extent) { return extent >= 0; });
}
const int64_t* strides_of(const Descriptor& d) { return d.strides.empty() ? nullptr : d.strides.data(); }

}  // namespace

void Machine::create_tensor() {
  const Descriptor d = descriptor();
  char* const data = in_.rarely() ? nullptr : address();
  const bool null_shape = in_.rarely() && in_.rarely() && !d.shape.empty();
  aclTensor* const handle = aclCreateTensor(
      null_shape ? nullptr : d.shape.data(), d.shape.size(), d.dtype, strides_of(d), d.offset,
      static_cast<aclFormat>(in_.byte() < 250 ? 2 : in_.byte()), d.storage.data(), d.storage.size(), data);
  expect(handle == nullptr, creatable(d) && !null_shape, "aclCreateTensor");
  if (handle == nullptr) return;
  Slot& tensor = slot(kTensor);
  if (tensor.live) (void)aclDestroyTensor(static_cast<aclTensor*>(tensor.handle));
  created(kTensor, tensor, handle);
  tensor.descriptor = d;
  tensor.data = std::make_shared<char*>(data);
}

void Machine::initialise_tensor() {
  if (!alone()) return;  // the caller excludes other uses of the tensor meanwhile
  Slot* tensor;
  void* const handle = choose(kTensor, &tensor);
  const Descriptor d = descriptor();
  char* const data = address();
  const bool live = tensor != nullptr && tensor->live;
  expect(aclInitTensor(static_cast<aclTensor*>(handle), d.shape.data(), d.shape.size(), d.dtype,
                       strides_of(d), d.offset, ACL_FORMAT_ND, d.storage.data(), d.storage.size(), data),
         live && creatable(d), "aclInitTensor");
  if (!live || !creatable(d)) return;
  tensor->descriptor = d;
  *tensor->data = data;
}

void Machine::destroy_tensor() {
  Slot* tensor;
  void* const handle = choose(kTensor, &tensor);
  const bool live = tensor != nullptr && tensor->live;
  expect(aclDestroyTensor(static_cast<aclTensor*>(handle)), live || handle == nullptr, "aclDestroyTensor");
  if (live) tensor->live = false;
}

void Machine::query_tensor() {
  Slot* slot;
  auto* const tensor = static_cast<aclTensor*>(choose(kTensor, &slot));
  const bool live = slot != nullptr && slot->live;
  const auto values = [&](auto get, const Shape* wanted, const char* name) {
    int64_t* numbers = nullptr;
    uint64_t count = 0;
    const int code = get(tensor, &numbers, &count);
    expect(code, live, name);
    if (code == 0 && alone() && wanted != nullptr)
      FUZZ_REQUIRE(std::equal(numbers, numbers + count, wanted->begin(), wanted->end()), "%s", name);
    delete[] numbers;
  };
  const Descriptor* d = live ? &slot->descriptor : nullptr;
  values(aclGetViewShape, d == nullptr ? nullptr : &d->shape, "aclGetViewShape");
  values(aclGetStorageShape, d == nullptr ? nullptr : &d->storage, "aclGetStorageShape");
  values(aclGetViewStrides, d == nullptr || d->strides.empty() ? nullptr : &d->strides, "aclGetViewStrides");
  int64_t offset = 0;
  aclFormat format;
  aclDataType dtype = ACL_DT_UNDEFINED;
  void* address = nullptr;
  expect(aclGetViewOffset(tensor, &offset), live, "aclGetViewOffset");
  expect(aclGetFormat(tensor, &format), live, "aclGetFormat");
  expect(aclGetDataType(tensor, &dtype), live, "aclGetDataType");
  expect(aclGetRawTensorAddr(tensor, &address), live, "aclGetRawTensorAddr");
  expect(aclGetDataType(tensor, nullptr), false, "aclGetDataType without a result");
  if (live && alone())
    FUZZ_REQUIRE(offset == d->offset && dtype == d->dtype && address == *slot->data, "a tensor's properties");
}

void Machine::set_raw_address() {
  Slot* tensor;
  void* const handle = choose(kTensor, &tensor);
  char* const data = in_.rarely() ? nullptr : address();
  const bool live = tensor != nullptr && tensor->live;
  expect(aclSetRawTensorAddr(static_cast<aclTensor*>(handle), data), live, "aclSetRawTensorAddr");
  if (live) *tensor->data = data;
}

void Machine::lists() {
  Slot& list = slot(kList);
  uint64_t size = 0;
  if (!list.live) {
    std::vector<const aclTensor*> elements(static_cast<size_t>(in_.below(4)));
    std::vector<void*> handles;
    for (const aclTensor*& each : elements) {
      Slot* slot;
      each = static_cast<aclTensor*>(choose(kTensor, &slot));
      handles.push_back(const_cast<aclTensor*>(each));
    }
    aclTensorList* const handle = aclCreateTensorList(elements.data(), elements.size());
    expect(handle == nullptr, true, "aclCreateTensorList");
    if (handle == nullptr) return;
    created(kList, list, handle);
    list.elements = handles;
    return;
  }
  auto* const handle = static_cast<aclTensorList*>(list.handle);
  const int code = aclGetTensorListSize(handle, &size);
  expect(code, true, "aclGetTensorListSize");
  FUZZ_REQUIRE(code != 0 || size == list.elements.size(), "a list's size");
  if (in_.below(2) == 0) return;
  // The list owns its elements.
  bool all = true;
  for (void* each : list.elements) {
    bool found = each == nullptr;
    for (Slot& tensor : slots_[kTensor]) {
      if (tensor.live && tensor.handle == each) tensor.live = false, found = true;
    }
    all = all && found;
  }
  expect(aclDestroyTensorList(handle), all, "aclDestroyTensorList");
  list.live = false;
  expect(aclDestroyTensorList(handle), false, "aclDestroyTensorList again");
}

void Machine::arrays() {
  const int64_t numbers[] = {1, 2, 3};
  Slot& array = slot(kArray);
  Slot& scalar = slot(kScalar);
  if (array.live) {
    uint64_t size = 0;
    expect(aclGetIntArraySize(static_cast<aclIntArray*>(array.handle), &size), true, "aclGetIntArraySize");
    expect(aclGetFloatArraySize(static_cast<aclFloatArray*>(array.handle), &size), false,
           "an array of another type");
    expect(aclDestroyIntArray(static_cast<aclIntArray*>(array.handle)), true, "aclDestroyIntArray");
    array.live = false;
  } else {
    const uint64_t size = in_.rarely() ? in_.word() | uint64_t{1} << 60 : static_cast<uint64_t>(in_.below(4));
    void* const handle = aclCreateIntArray(size < 4 && in_.rarely() ? nullptr : numbers, size);
    done(handle == nullptr, "aclCreateIntArray");
    if (handle != nullptr) created(kArray, array, handle);
  }
  if (scalar.live) {
    expect(aclDestroyScalar(static_cast<aclScalar*>(scalar.handle)), true, "aclDestroyScalar");
    scalar.live = false;
  } else {
    double value = 1;
    const auto dtype = static_cast<aclDataType>(in_.signed_byte());
    const size_t size = aclDataTypeSize(dtype);
    if (size > sizeof(value)) return;
    void* const handle = aclCreateScalar(&value, dtype);
    expect(handle == nullptr, size != 0, "aclCreateScalar");
    if (handle != nullptr) created(kScalar, scalar, handle);
  }
}

}  // namespace fuzz
