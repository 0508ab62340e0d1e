// Linear regression on real data (data/README.md) by gradient descent. Every gradient is computed by
// aclnnMseLossBackward, called as on an NPU: device memory, a stream, one repeatable executor. The data on
// the device is float32, float16 or bfloat16; the weights are float64 on the host. The program returns 0 if
// all three reach, within their tolerance, the least-squares optimum computed independently by a QR
// factorisation.
//
//   regression [penguins.csv]
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "acl/acl.h"
#include "aclnnop/aclnn_mse_loss_backward.h"
#include "mseloss/mseloss.h"

namespace {

void check(int code, const char* what) {
  if (code == 0) return;
  std::fprintf(stderr, "%s: error %d\n%s\n", what, code, aclGetRecentErrMsg());
  std::exit(1);
}
#define CHECK(call) check((call), #call)

using Vector = std::vector<double>;

// Standardised: y and each column of x have mean 0 and standard deviation 1. The model needs no intercept,
// and values of y are in units of its standard deviation.
struct Data {
  std::vector<Vector> x;
  std::vector<std::string> names = {"bill length", "bill depth", "flipper length",
                                    "Chinstrap",   "Gentoo",     "male"};
  Vector y;
  double deviation = 0;  // standard deviation of y, in grams
};

double standardise(Vector& values) {
  const auto count = static_cast<double>(values.size());
  double mean = 0, square = 0;
  for (const double v : values) mean += v / count;
  for (double& v : values) v -= mean, square += v * v / count;
  for (double& v : values) v /= std::sqrt(square);
  return std::sqrt(square);
}

Data read(const char* path) {
  std::ifstream file(path);
  if (!file) {
    std::fprintf(stderr, "cannot read %s; give the path of penguins.csv\n", path);
    std::exit(2);
  }
  Data data;
  data.x.resize(data.names.size());
  std::string line;
  std::getline(file,
               line);  // species,island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,sex,year
  while (std::getline(file, line)) {
    std::vector<std::string> cell;
    std::istringstream cells(line);
    for (std::string c; std::getline(cells, c, ',');) cell.push_back(c);
    if (cell.size() != 8 || cell[2] == "NA" || cell[6] == "NA") continue;
    const double row[] = {std::stod(cell[2]),
                          std::stod(cell[3]),
                          std::stod(cell[4]),
                          static_cast<double>(cell[0] == "Chinstrap"),
                          static_cast<double>(cell[0] == "Gentoo"),
                          static_cast<double>(cell[6] == "male")};
    for (size_t j = 0; j < data.x.size(); ++j) data.x[j].push_back(row[j]);
    data.y.push_back(std::stod(cell[5]));
  }
  for (Vector& column : data.x) standardise(column);
  data.deviation = standardise(data.y);
  return data;
}

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// Minimises |x w - y| by modified Gram-Schmidt on (x y), which is as stable as Householder's QR.
Vector least_squares(std::vector<Vector> q, Vector y) {
  const size_t n = q.size();
  std::vector<Vector> r(n, Vector(n));
  Vector w(n);
  for (size_t j = 0; j < n; ++j) {
    r[j][j] = std::sqrt(dot(q[j], q[j]));
    for (double& v : q[j]) v /= r[j][j];
    const auto remove = [&](Vector& from) {
      const double part = dot(q[j], from);
      for (size_t i = 0; i < from.size(); ++i) from[i] -= part * q[j][i];
      return part;
    };
    for (size_t k = j + 1; k < n; ++k) r[j][k] = remove(q[k]);
    w[j] = remove(y);
  }
  for (size_t j = n; j-- > 0;) {
    for (size_t k = j + 1; k < n; ++k) w[j] -= r[j][k] * w[k];
    w[j] /= r[j][j];
  }
  return w;
}

// A storage format on the device. Half types are passed as their 16 bits.
struct Format {
  const char* name;
  aclDataType type;
  double tolerance;  // maximum error of a weight, in grams per standard deviation of its column
  std::function<void(double, void*, size_t)> store;
  std::function<double(const void*, size_t)> load;
};

uint16_t to_bfloat16(float value) {
  const auto bits = __builtin_bit_cast(uint32_t, value);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);  // nearest even; no NaN occurs
}

std::vector<Format> formats() {
  const auto half = [](auto to, auto from) {
    return std::pair{
        [to](double v, void* p, size_t i) { static_cast<uint16_t*>(p)[i] = to(static_cast<float>(v)); },
        [from](const void* p, size_t i) -> double { return from(static_cast<const uint16_t*>(p)[i]); }};
  };
  const auto f16 = half(aclFloatToFloat16, aclFloat16ToFloat);
  const auto bf16 =
      half(to_bfloat16, [](uint16_t b) { return __builtin_bit_cast(float, uint32_t{b} << 16); });
  return {{"float32", ACL_FLOAT, 0.001,
           [](double v, void* p, size_t i) { static_cast<float*>(p)[i] = static_cast<float>(v); },
           [](const void* p, size_t i) -> double { return static_cast<const float*>(p)[i]; }},
          {"float16", ACL_FLOAT16, 0.2, f16.first, f16.second},
          {"bfloat16", ACL_BF16, 2, bf16.first, bf16.second}};
}

// One column of values on the device, and a tensor that covers it.
struct DeviceVector {
  const Format& format;
  std::vector<uint32_t> host;  // staging buffer, wide enough for every format
  size_t bytes;
  int64_t count;
  void* memory = nullptr;
  aclTensor* tensor = nullptr;

  DeviceVector(const Format& f, size_t n)
      : format(f), host(n), bytes(n * aclDataTypeSize(f.type)), count(static_cast<int64_t>(n)) {
    CHECK(aclrtMalloc(&memory, bytes, ACL_MEM_MALLOC_HUGE_FIRST));
    tensor = aclCreateTensor(&count, 1, f.type, nullptr, 0, ACL_FORMAT_ND, &count, 1, memory);
    CHECK(tensor == nullptr);
  }
  DeviceVector(const DeviceVector&) = delete;
  ~DeviceVector() {
    aclDestroyTensor(tensor);
    aclrtFree(memory);
  }
  void put(const Vector& values) {
    for (size_t i = 0; i < values.size(); ++i) format.store(values[i], host.data(), i);
    CHECK(aclrtMemcpy(memory, bytes, host.data(), bytes, ACL_MEMCPY_HOST_TO_DEVICE));
  }
  Vector get() {
    CHECK(aclrtMemcpy(host.data(), bytes, memory, bytes, ACL_MEMCPY_DEVICE_TO_HOST));
    Vector values(host.size());
    for (size_t i = 0; i < values.size(); ++i) values[i] = format.load(host.data(), i);
    return values;
  }
};

Vector predict(const Data& data, const Vector& w) {
  Vector p(data.y.size());
  for (size_t j = 0; j < w.size(); ++j) {
    for (size_t i = 0; i < p.size(); ++i) p[i] += data.x[j][i] * w[j];
  }
  return p;
}

double mean_square(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum / static_cast<double>(a.size());
}

// Gradient descent from w = 0. The curvature of the mean squared error is at most
// 2 * trace(x'x / n) = 2 * columns, so a step of 1 / columns is stable for any data.
Vector train(const Data& data, const Format& format, aclrtStream stream, int steps) {
  Vector w(data.x.size());
  const double step = 1 / static_cast<double>(w.size());
  DeviceVector grad_output(format, 1), prediction(format, data.y.size()), target(format, data.y.size()),
      gradient(format, data.y.size());
  grad_output.put({1});
  target.put(data.y);

  uint64_t workspace_size = 0;
  aclOpExecutor* executor = nullptr;
  const int64_t mean = 1;
  CHECK(aclnnMseLossBackwardGetWorkspaceSize(grad_output.tensor, prediction.tensor, target.tensor, mean,
                                             gradient.tensor, &workspace_size, &executor));
  CHECK(aclSetAclOpExecutorRepeatable(executor));  // one plan for all steps
  void* workspace = nullptr;
  if (workspace_size > 0) CHECK(aclrtMalloc(&workspace, workspace_size, ACL_MEM_MALLOC_HUGE_FIRST));

  std::printf("\n%s\n   step   mean squared error (g^2)\n", format.name);
  for (int i = 0; i <= steps; ++i) {
    const Vector p = predict(data, w);
    if (i % (steps / 5) == 0) {
      std::printf("%7d   %.6f\n", i, mean_square(p, data.y) * data.deviation * data.deviation);
    }
    prediction.put(p);
    CHECK(aclnnMseLossBackward(workspace, workspace_size, executor, stream));
    CHECK(aclrtSynchronizeStream(stream));
    const Vector g = gradient.get();
    for (size_t j = 0; j < w.size(); ++j) w[j] -= step * dot(data.x[j], g);
  }
  if (workspace != nullptr) CHECK(aclrtFree(workspace));
  CHECK(aclDestroyAclOpExecutor(executor));
  return w;
}

bool compare_formats(const Data& data, const Vector& best, aclrtStream stream, int steps) {
  bool all = true;
  std::string table;
  const double least = mean_square(predict(data, best), data.y);
  for (const Format& format : formats()) {
    const Vector w = train(data, format, stream, steps);
    double error = 0;
    for (size_t j = 0; j < w.size(); ++j) {
      error = std::max(error, std::abs(w[j] - best[j]) * data.deviation);
    }
    const bool reached = error <= format.tolerance;
    all = all && reached;
    char line[128];
    std::snprintf(line, sizeof line, "%-9s %18.7f %18g %18.1e   %s\n", format.name, error, format.tolerance,
                  mean_square(predict(data, w), data.y) / least - 1, reached ? "reached" : "MISSED");
    table += line;
  }
  std::printf(
      "\nAgainst the least-squares optimum: greatest error of a weight (g), and loss above the least\n");
  std::printf("storage        weights off by          tolerance        excess loss\n%s", table.c_str());
  return all;
}

// Repeats the 333 errors, by a stride of 0 and without a copy: the mean must not change.
bool show_exact_sum(const Data& data, const Vector& w) {
  constexpr int64_t kRepeats = 100000;
  const Vector p = predict(data, w);
  std::vector<float> x, y;
  for (size_t i = 0; i < p.size(); ++i) {
    x.push_back(static_cast<float>(p[i] * data.deviation));
    y.push_back(static_cast<float>(data.y[i] * data.deviation));
  }
  std::printf("\nThe loss (g^2) in float32\n%12s %20s %20s\n", "elements", "mseloss::loss", "float32 loop");
  float exact[2], naive[2] = {};
  for (int i = 0; i < 2; ++i) {
    const auto n = static_cast<int64_t>(x.size()), repeats = i == 0 ? 1 : kRepeats;
    const int64_t shape[] = {repeats, n}, strides[] = {0, 1};
    const auto status = mseloss::loss({x.data(), shape, strides}, {y.data(), shape, strides},
                                      mseloss::Reduction::kMean, &exact[i]);
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", status.message());
      return false;
    }
    for (int64_t r = 0; r < repeats; ++r) {
      for (size_t j = 0; j < x.size(); ++j) naive[i] += (x[j] - y[j]) * (x[j] - y[j]);
    }
    naive[i] /= static_cast<float>(repeats * n);
    std::printf("%12lld %20.9g %20.9g\n", static_cast<long long>(repeats) * n, exact[i], naive[i]);
  }
  const bool same = exact[0] == exact[1];
  std::printf("%s; the loop is off by %.2g %%.\n",
              same ? "The exact mean keeps its bits" : "ERROR: the exact mean changed",
              100 * std::abs(naive[1] / exact[1] - 1));
  return same;
}

}  // namespace

int main(int argc, char** argv) {
  const Data data = read(argc > 1 ? argv[1] : "data/penguins.csv");
  const Vector best = least_squares(data.x, data.y);
  std::printf(
      "%zu penguins, body mass by %zu columns. Optimum, in grams for one standard deviation of a column:\n",
      data.y.size(), data.x.size());
  for (size_t j = 0; j < best.size(); ++j) {
    std::printf("  %-15s %10.4f\n", data.names[j].c_str(), best[j] * data.deviation);
  }

  CHECK(aclInit(nullptr));
  CHECK(aclrtSetDevice(0));
  aclrtStream stream = nullptr;
  CHECK(aclrtCreateStream(&stream));
  const bool reached = compare_formats(data, best, stream, 1000);
  CHECK(aclrtDestroyStream(stream));
  CHECK(aclrtResetDevice(0));
  CHECK(aclFinalize());

  const bool stable = show_exact_sum(data, best);
  return reached && stable ? 0 : 1;
}
