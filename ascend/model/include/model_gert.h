// Replacement for the parts of CANN's ge, gert and fe used by a custom operator's host code. A getter returns
// null for everything that the caller did not set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ge {

using graphStatus = uint32_t;
constexpr graphStatus GRAPH_SUCCESS = 0;
constexpr graphStatus GRAPH_FAILED = 0xFFFFFFFF;

enum DataType { DT_FLOAT = 0, DT_FLOAT16 = 1, DT_INT32 = 3, DT_BF16 = 27, DT_UNDEFINED = 28 };
enum Format { FORMAT_ND = 2 };

}  // namespace ge

namespace fe {

struct PlatFormInfos {
  int soc_version = 1;  // platform_ascendc::SocVersion::ASCEND910B
  uint32_t aiv_cores = 48;
  uint64_t ub_bytes = 196352;
  uint64_t l2_bytes = uint64_t{192} << 20;
};

}  // namespace fe

namespace gert {

class Shape {
 public:
  Shape() = default;
  explicit Shape(std::vector<int64_t> dims) : dims_(std::move(dims)) {}
  size_t GetDimNum() const { return dims_.size(); }
  int64_t GetDim(size_t index) const { return dims_.at(index); }
  void SetDimNum(size_t count) { dims_.resize(count); }
  void SetDim(size_t index, int64_t value) { dims_.at(index) = value; }
  void AppendDim(int64_t value) { dims_.push_back(value); }
  int64_t GetShapeSize() const {
    int64_t size = 1;
    for (const int64_t dim : dims_) {
      if (__builtin_mul_overflow(size, dim, &size)) {
        return -1;
      }
    }
    return size;
  }
  const std::vector<int64_t>& dims() const { return dims_; }

 private:
  std::vector<int64_t> dims_;
};

struct StorageShape {
  Shape origin;
  Shape storage = origin;
  const Shape& GetStorageShape() const { return storage; }
  const Shape& GetOriginShape() const { return origin; }
  Shape& MutableOriginShape() { return origin; }
  Shape& MutableStorageShape() { return storage; }
};

struct CompileTimeTensorDesc {
  ge::DataType dtype = ge::DT_UNDEFINED;
  ge::DataType GetDataType() const { return dtype; }
};

struct RuntimeAttrs {
  std::vector<std::string> strings;
  const char* GetStr(size_t index) const { return index < strings.size() ? strings[index].c_str() : nullptr; }
};

struct TilingContext {
  std::vector<std::optional<StorageShape>> input_shapes;
  std::vector<std::optional<CompileTimeTensorDesc>> input_descs;
  std::optional<StorageShape> output_shape;
  std::optional<CompileTimeTensorDesc> output_desc;
  std::optional<RuntimeAttrs> attrs;
  fe::PlatFormInfos* platform = nullptr;
  std::vector<uint8_t> tiling = std::vector<uint8_t>(4096, 0xEE);
  size_t tiling_used = 0;
  uint32_t block_dim = 0;
  std::vector<size_t> workspaces;

  const StorageShape* GetInputShape(size_t i) const {
    return i < input_shapes.size() && input_shapes[i] ? &*input_shapes[i] : nullptr;
  }
  const CompileTimeTensorDesc* GetInputDesc(size_t i) const {
    return i < input_descs.size() && input_descs[i] ? &*input_descs[i] : nullptr;
  }
  const StorageShape* GetOutputShape(size_t i) const {
    return i == 0 && output_shape ? &*output_shape : nullptr;
  }
  const CompileTimeTensorDesc* GetOutputDesc(size_t i) const {
    return i == 0 && output_desc ? &*output_desc : nullptr;
  }
  const RuntimeAttrs* GetAttrs() const { return attrs ? &*attrs : nullptr; }
  fe::PlatFormInfos* GetPlatformInfo() const { return platform; }
  template <typename T>
  T* GetTilingData() {
    tiling_used = sizeof(T);
    return sizeof(T) <= tiling.size() ? reinterpret_cast<T*>(tiling.data()) : nullptr;
  }
  ge::graphStatus SetBlockDim(uint32_t blocks) {
    block_dim = blocks;
    return ge::GRAPH_SUCCESS;
  }
  size_t* GetWorkspaceSizes(size_t count) {
    workspaces.assign(count, 1);
    return workspaces.data();
  }
};

struct InferShapeContext {
  std::vector<std::optional<Shape>> inputs;
  std::optional<Shape> output = Shape();
  const Shape* GetInputShape(size_t i) const {
    return i < inputs.size() && inputs[i] ? &*inputs[i] : nullptr;
  }
  Shape* GetOutputShape(size_t i) { return i == 0 && output ? &*output : nullptr; }
};

struct InferDataTypeContext {
  std::vector<ge::DataType> inputs;
  ge::DataType output = ge::DT_UNDEFINED;
  ge::DataType GetInputDataType(size_t i) const { return inputs.at(i); }
  ge::graphStatus SetOutputDataType(size_t, ge::DataType dtype) {
    output = dtype;
    return ge::GRAPH_SUCCESS;
  }
};

}  // namespace gert
