// The loss and its gradient in one sweep, on a CUDA device: operands in its memory, work on a stream, no
// waiting until the results are copied. On a machine without a device it says so.
#include <cuda_runtime.h>
#include <mseloss/mseloss.h>

#include <cstdio>
#include <vector>

int main() {
  int devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess || devices == 0) {
    std::printf("no CUDA device: %s\n", cudaGetErrorString(error));
    return 0;
  }
  constexpr int64_t kCount = 1 << 20;
  const int64_t shape[] = {kCount};
  const std::vector<float> ones(kCount, 1.0F), twos(kCount, 2.0F);
  const size_t bytes = kCount * sizeof(float);
  cudaStream_t stream;
  float *input, *target, *grad_input, *scalars;  // scalars: grad_output and the loss
  cudaStreamCreate(&stream);
  cudaMallocAsync(&input, bytes, stream);
  cudaMallocAsync(&target, bytes, stream);
  cudaMallocAsync(&grad_input, bytes, stream);
  cudaMallocAsync(&scalars, 2 * sizeof(float), stream);
  cudaMemcpyAsync(input, twos.data(), bytes, cudaMemcpyHostToDevice, stream);
  cudaMemcpyAsync(target, ones.data(), bytes, cudaMemcpyHostToDevice, stream);
  cudaMemcpyAsync(scalars, ones.data(), sizeof(float), cudaMemcpyHostToDevice, stream);

  mseloss::Options options;
  options.device = mseloss::Device::kCuda;
  options.stream = stream;
  const auto status = mseloss::loss_and_grad({input, shape}, {target, shape}, mseloss::Reduction::kMean,
                                             scalars, scalars + 1, {grad_input, shape}, options);
  if (!status.ok()) {
    std::puts(status.message());
    return 1;
  }
  float loss = 0, gradient = 0;
  cudaMemcpyAsync(&loss, scalars + 1, sizeof(float), cudaMemcpyDeviceToHost, stream);
  cudaMemcpyAsync(&gradient, grad_input, sizeof(float), cudaMemcpyDeviceToHost, stream);
  cudaStreamSynchronize(stream);
  std::printf("loss %g, gradient %g * 2^-20\n", loss, gradient * kCount);  // 1 and 2
  for (float* memory : {input, target, grad_input, scalars}) cudaFreeAsync(memory, stream);
  cudaStreamDestroy(stream);
  return loss == 1 && gradient == 2.0F / kCount ? 0 : 1;
}
