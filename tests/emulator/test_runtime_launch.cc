// Kernels over the CUDA runtime API: launches, their limits, variables, faults and counters.

#include <algorithm>
#include <numeric>

#include "tests/emulator/test_runtime_fixture.h"
#include "tests/random.h"

namespace xception::emulator {
namespace {

// The same launch through cudaLaunchKernel; `arguments` as the kernel has them.
cudaError_t launch(const void* kernel, dim3 grid, dim3 block, std::vector<void*> arguments,
                   std::size_t shared_bytes = 0) {
  return cudaLaunchKernel(kernel, grid, block, arguments.data(), shared_bytes, nullptr);
}

TEST_CASE("kernels compute what they say") {
  XC_RANDOM(random);
  for (const int n : {1, 31, 127, 128, 129, 1000}) {
    const std::vector<float> a = random.integers(n);
    const std::vector<float> b = random.integers(n);
    const DeviceArray<float> device_a(a);
    const DeviceArray<float> device_b(b);
    const DeviceArray<float> dst(a.size());
    const DeviceArray<float> total(1);
    REQUIRE_CUDA(add(device_a.get(), device_b.get(), dst.get(), n, nullptr));
    REQUIRE_CUDA(sum(dst.get(), total.get(), n, nullptr));
    std::vector<float> expected(a.size());
    std::transform(a.begin(), a.end(), b.begin(), expected.begin(), std::plus<>());
    CHECK(dst.values() == expected);
    CHECK(total.values()[0] == std::accumulate(expected.begin(), expected.end(), 0.0F));
  }
}

TEST_CASE("a structure reaches the kernel whole") {
  const DeviceArray<float> src(std::vector<float>{1, 2, 3, 4, 5});
  const DeviceArray<float> bias(std::vector<float>{10, 20, 30});
  const DeviceArray<float> dst(5);
  Recipe recipe;
  recipe.offset = 1;
  recipe.factor = 0.5;
  recipe.step = 3;
  recipe.bias = bias.get();
  REQUIRE_CUDA(apply(recipe, src.get(), dst.get(), 5, nullptr));
  recipe.factor = 100;  // arguments were copied at the launch
  CHECK(dst.values() == std::vector<float>{11.5F, 22, 32.5F, 13, 23.5F});
}

TEST_CASE("variables are initialised, written and read") {
  std::vector<int> coefficients(4);
  REQUIRE_CUDA(cudaMemcpyFromSymbol(coefficients.data(), coefficient_symbol(), 16, 0,
                                    cudaMemcpyDeviceToHost));
  CHECK(coefficients == std::vector<int>{1, 10, 100, 1000});
  int total = 0;
  REQUIRE_CUDA(
      cudaMemcpyToSymbol(total_symbol(), &total, sizeof(total), 0, cudaMemcpyHostToDevice));
  REQUIRE_CUDA(add_coefficients(9, nullptr));
  REQUIRE_CUDA(
      cudaMemcpyFromSymbol(&total, total_symbol(), sizeof(total), 0, cudaMemcpyDeviceToHost));
  CHECK(total == 2 * 1111 + 1);

  const int two = 2;
  REQUIRE_CUDA(cudaMemcpyToSymbol(coefficient_symbol(), &two, 4, 12, cudaMemcpyHostToDevice));
  REQUIRE_CUDA(add_coefficients(4, nullptr));
  REQUIRE_CUDA(
      cudaMemcpyFromSymbol(&total, total_symbol(), sizeof(total), 0, cudaMemcpyDeviceToHost));
  CHECK(total == 2 * 1111 + 1 + 113);
  REQUIRE_CUDA(
      cudaMemcpyToSymbol(coefficient_symbol(), coefficients.data(), 16, 0, cudaMemcpyHostToDevice));

  CHECK_CUDA(cudaErrorInvalidValue,
             cudaMemcpyToSymbol(coefficient_symbol(), &two, 4, 13, cudaMemcpyHostToDevice));
  CHECK_CUDA(cudaErrorInvalidSymbol, cudaMemcpyToSymbol(&two, &two, 4, 0, cudaMemcpyHostToDevice));
  void* pointer = nullptr;
  std::size_t size = 0;
  CHECK_CUDA(cudaErrorInvalidSymbol, cudaGetSymbolAddress(&pointer, &two));
  CHECK_CUDA(cudaSuccess, cudaGetSymbolAddress(&pointer, coefficient_symbol()));
  CHECK_CUDA(cudaSuccess, cudaGetSymbolSize(&size, coefficient_symbol()));
  CHECK(size == 16);
  CHECK_CUDA(cudaSuccess, cudaMemcpy(coefficients.data(), pointer, 16, cudaMemcpyDeviceToHost));
  CHECK(coefficients[2] == 100);
  (void)cudaGetLastError();
}

TEST_CASE("grids and blocks have limits") {
  const DeviceArray<int> dst(1);
  int* pointer = dst.get();
  int value = 3;
  int n = 1;
  const std::vector<void*> arguments = {&pointer, &value, &n};
  const auto with = [&](dim3 grid, dim3 block) {
    return launch(fill_kernel(), grid, block, arguments);
  };
  CHECK_CUDA(cudaSuccess, with(dim3(1), dim3(1024)));
  CHECK_CUDA(cudaSuccess, with(dim3(1), dim3(16, 16, 4)));
  CHECK_CUDA(cudaErrorInvalidConfiguration, with(dim3(0), dim3(32)));
  CHECK_CUDA(cudaErrorInvalidConfiguration, with(dim3(1), dim3(0)));
  CHECK_CUDA(cudaErrorInvalidConfiguration, with(dim3(1), dim3(1025)));
  CHECK_CUDA(cudaErrorInvalidConfiguration, with(dim3(1), dim3(1, 1, 65)));
  CHECK_CUDA(cudaErrorInvalidConfiguration, with(dim3(1), dim3(32, 33)));
  CHECK_CUDA(cudaErrorInvalidConfiguration, with(dim3(1, 65536), dim3(32)));
  CHECK_CUDA(cudaErrorInvalidConfiguration, with(dim3(1, 1, 65536), dim3(32)));
  CHECK_CUDA(cudaErrorInvalidConfiguration, with(dim3(0x80000000U), dim3(32)));
  (void)cudaGetLastError();
  CHECK(dst.values()[0] == 3);
}

TEST_CASE("launch bounds and registers limit the block") {
  const DeviceArray<int> dst(std::vector<int>(1024, 0));
  int* pointer = dst.get();
  CHECK_CUDA(cudaSuccess, launch(at_most_64_kernel(), dim3(1), dim3(64), {&pointer}));
  CHECK_CUDA(cudaErrorInvalidValue, launch(at_most_64_kernel(), dim3(1), dim3(65), {&pointer}));
  cudaFuncAttributes attributes;
  REQUIRE_CUDA(cudaFuncGetAttributes(&attributes, at_most_64_kernel()));
  CHECK(attributes.maxThreadsPerBlock == 64);
  REQUIRE_CUDA(cudaFuncGetAttributes(&attributes, many_registers_kernel()));
  CHECK(attributes.numRegs > 64);
  CHECK(attributes.maxThreadsPerBlock < 1024);
  CHECK(attributes.maxThreadsPerBlock >= 256);
  const DeviceArray<float> src(std::vector<float>(1 << 13, 1));
  float* from = src.get();
  float* to = reinterpret_cast<float*>(pointer);
  CHECK_CUDA(cudaErrorLaunchOutOfResources,
             launch(many_registers_kernel(), dim3(1), dim3(1024), {&from, &to}));
  (void)cudaGetLastError();
  REQUIRE_CUDA(cudaDeviceSynchronize());
}

TEST_CASE("more than 48 KiB of shared memory must be asked for") {
  cudaDeviceProp properties;
  REQUIRE_CUDA(cudaGetDeviceProperties(&properties, 0));
  constexpr int kPlain = 48 << 10;
  const int most = static_cast<int>(properties.sharedMemPerBlockOptin);
  const DeviceArray<int> dst(static_cast<std::size_t>(most) / 4);
  const auto with = [&](int bytes) { return reverse(dst.get(), bytes / 4, nullptr); };
  CHECK_CUDA(cudaSuccess, with(kPlain));
  CHECK(dst.values()[0] == kPlain / 4 - 1);
  CHECK_CUDA(cudaErrorInvalidValue, with(kPlain + 4));
  const auto allow = [](int bytes) {
    return cudaFuncSetAttribute(reverse_kernel(), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                bytes);
  };
  CHECK_CUDA(cudaErrorInvalidValue, allow(most + 1));
  CHECK_CUDA(cudaErrorInvalidValue, allow(-1));
  (void)cudaGetLastError();
  CHECK_CUDA(cudaSuccess, allow(most));
  cudaFuncAttributes attributes;
  REQUIRE_CUDA(cudaFuncGetAttributes(&attributes, reverse_kernel()));
  CHECK(attributes.maxDynamicSharedSizeBytes == most);
  CHECK_CUDA(cudaSuccess, with(most));
  CHECK(dst.values()[0] == most / 4 - 1);
  CHECK_CUDA(cudaErrorInvalidValue, with(most + 4));
  (void)cudaGetLastError();
}

TEST_CASE("occupancy is what NVIDIA's calculator says") {
  XC_NEEDS_EMULATOR();
  cudaDeviceProp properties;
  REQUIRE_CUDA(cudaGetDeviceProperties(&properties, 0));
  const auto blocks = [](const void* kernel, int threads, std::size_t shared_bytes) {
    int count = -1;
    REQUIRE_CUDA(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&count, kernel, threads, shared_bytes));
    return count;
  };
  CHECK(blocks(fill_kernel(), 1024, 0) == properties.maxThreadsPerMultiProcessor / 1024);
  CHECK(blocks(fill_kernel(), 32, 0) == std::min(properties.maxBlocksPerMultiProcessor,
                                                 properties.maxThreadsPerMultiProcessor / 32));
  const std::size_t block_bytes = (16 << 10) + properties.reservedSharedMemPerBlock;
  CHECK(blocks(reverse_kernel(), 128, 16 << 10) ==
        std::min(properties.maxThreadsPerMultiProcessor / 128,
                 static_cast<int>(properties.sharedMemPerMultiprocessor / block_bytes)));
  int count = 0;
  CHECK_CUDA(cudaErrorInvalidValue,
             cudaOccupancyMaxActiveBlocksPerMultiprocessor(&count, fill_kernel(), 0, 0));
  CHECK_CUDA(cudaErrorInvalidDeviceFunction,
             cudaOccupancyMaxActiveBlocksPerMultiprocessor(&count, &count, 32, 0));
  (void)cudaGetLastError();
}

TEST_CASE("attributes of a kernel come from its code") {
  cudaFuncAttributes attributes;
  REQUIRE_CUDA(cudaFuncGetAttributes(&attributes, static_shared_kernel()));
  CHECK(attributes.sharedSizeBytes == 1024);
  CHECK(attributes.ptxVersion >= 75);
  CHECK(attributes.numRegs > 0);
  CHECK_CUDA(cudaErrorInvalidDeviceFunction, cudaFuncGetAttributes(&attributes, &attributes));
  CHECK_CUDA(cudaErrorInvalidDeviceFunction, launch(&attributes, dim3(1), dim3(1), {}));
  (void)cudaGetLastError();
}

TEST_CASE("extended launches take what changes nothing and refuse the rest") {
  const DeviceArray<int> dst(std::vector<int>(32, 0));
  int* pointer = dst.get();
  int value = 3;
  int n = 32;
  void* arguments[] = {&pointer, &value, &n};
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t configuration{};
  configuration.gridDim = dim3(1);
  configuration.blockDim = dim3(32);
  configuration.attrs = &attribute;
  configuration.numAttrs = 1;
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  cudaDeviceProp properties;
  REQUIRE_CUDA(cudaGetDeviceProperties(&properties, 0));
  // Allows nothing, or what no older device does.
  attribute.val.programmaticStreamSerializationAllowed = properties.major >= 9 ? 0 : 1;
  if (emulator_control() != nullptr || properties.major >= 9) {
    CHECK_CUDA(cudaSuccess, cudaLaunchKernelExC(&configuration, fill_kernel(), arguments));
    CHECK(dst.values() == std::vector<int>(32, 3));
  }
  if (emulator_control() != nullptr) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {2, 1, 1};
    CHECK_CUDA(cudaErrorInvalidClusterSize,
               cudaLaunchKernelExC(&configuration, fill_kernel(), arguments));
  }
  CHECK_CUDA(cudaErrorInvalidValue, cudaLaunchKernelExC(nullptr, fill_kernel(), arguments));
  (void)cudaGetLastError();
}

TEST_CASE("a captured launch replays with the arguments it was captured with") {
  const TestStream stream;
  const DeviceArray<int> device(std::vector<int>(300, 0));
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < 3; ++i) {
    REQUIRE_CUDA(increment(device.get(), 100 * (i + 1), stream.get()));
  }
  REQUIRE_CUDA(cudaStreamEndCapture(stream.get(), &graph));
  REQUIRE_CUDA(cudaGraphInstantiate(&exec, graph, 0));
  REQUIRE_CUDA(cudaGraphDestroy(graph));
  for (int replay = 0; replay < 4; ++replay) {
    REQUIRE_CUDA(cudaGraphLaunch(exec, stream.get()));
  }
  REQUIRE_CUDA(cudaStreamSynchronize(stream.get()));
  REQUIRE_CUDA(cudaGraphExecDestroy(exec));
  std::vector<int> expected(300, 4);
  std::fill_n(expected.begin(), 200, 8);
  std::fill_n(expected.begin(), 100, 12);
  CHECK(device.values() == expected);
}

// A fault stays the device's error until it is reset.
void check_fault(cudaError_t expected, const char* words, cudaError_t launched) {
  const Control* control = emulator_control();
  CHECK_CUDA(cudaSuccess, launched);
  CHECK_CUDA(expected, cudaDeviceSynchronize());
  CHECK_CONTAINS(control->last_fault(), words);
  void* pointer = nullptr;
  CHECK_CUDA(expected, cudaMalloc(&pointer, 4));
  CHECK_CUDA(expected, fill(nullptr, 0, 1, nullptr));
  CHECK_CUDA(expected, cudaGetLastError());
  CHECK_CUDA(expected, cudaGetLastError());
  CHECK_CUDA(cudaSuccess, cudaDeviceReset());
  CHECK_CUDA(cudaSuccess, cudaGetLastError());
  CHECK(std::string(control->last_fault()).empty());
  CHECK(nothing_lives());
}

// Memory that goes with the reset.
int* raw_ints(int count, int value) {
  int* data = nullptr;
  REQUIRE_CUDA(cudaMalloc(reinterpret_cast<void**>(&data), static_cast<std::size_t>(count) * 4));
  REQUIRE_CUDA(fill(data, value, count, nullptr));
  return data;
}

TEST_CASE("faults become the errors a GPU gives") {
  XC_NEEDS_EMULATOR();
  const TestSeed lazy(0);
  SECTION("out of bounds") {
    check_fault(cudaErrorIllegalAddress, "write_past_device",
                write_past(raw_ints(64, 0), 64, nullptr));
  }
  SECTION("after free") {
    int* data = raw_ints(64, 0);
    REQUIRE_CUDA(cudaFree(data));
    check_fault(cudaErrorIllegalAddress, "increment_device", increment(data, 64, nullptr));
  }
  SECTION("misaligned") {
    int* data = raw_ints(64, 0);
    check_fault(cudaErrorMisalignedAddress, "read_misaligned_device",
                read_misaligned(data, data + 8, nullptr));
  }
  SECTION("assertion") {
    check_fault(cudaErrorAssert, "data == 7", fail_assertion(raw_ints(1, 6), nullptr));
  }
  SECTION("trap") { check_fault(cudaErrorLaunchFailure, "trap_device", trap(nullptr)); }
  SECTION("never written") {
    int* data = nullptr;
    REQUIRE_CUDA(cudaMalloc(reinterpret_cast<void**>(&data), 256));
    check_fault(cudaErrorLaunchFailure, "increment_device", increment(data, 64, nullptr));
  }
}

TEST_CASE("an assertion that holds is no fault") {
  const DeviceArray<int> device(std::vector<int>{7});
  CHECK_CUDA(cudaSuccess, fail_assertion(device.get(), nullptr));
  CHECK_CUDA(cudaSuccess, cudaDeviceSynchronize());
}

TEST_CASE("work behind a fault is not done, and what is freed after it is freed") {
  XC_NEEDS_EMULATOR();
  const TestSeed lazy(0);
  {
    const TestStream stream;
    const TestEvent event;
    const DeviceArray<int> device(std::vector<int>(8, 0));
    const PinnedArray<int> result(8, 5);
    REQUIRE_CUDA(write_past(device.get(), 8, stream.get()));
    REQUIRE_CUDA(cudaMemcpyAsync(result.get(), device.get(), result.bytes(), cudaMemcpyDeviceToHost,
                                 stream.get()));
    CHECK_CUDA(cudaErrorIllegalAddress, cudaStreamSynchronize(stream.get()));
    CHECK(result.values() == std::vector<int>(8, 5));
  }
  CHECK(nothing_lives());
  CHECK_CUDA(cudaSuccess, cudaDeviceReset());
  (void)cudaGetLastError();
}

TEST_CASE("counters tell of each launch") {
  XC_NEEDS_EMULATOR();
  const TestSeed lazy(0);
  const Control* control = emulator_control();
  const DeviceArray<int> device(1000);
  REQUIRE_CUDA(cudaDeviceSynchronize());
  control->reset_counters();
  CHECK(std::string(control->counters()).empty());
  REQUIRE_CUDA(fill(device.get(), 1, 1000, nullptr));
  REQUIRE_CUDA(increment(device.get(), 1000, nullptr));
  CHECK(std::string(control->counters()).empty());  // nothing has run
  REQUIRE_CUDA(cudaDeviceSynchronize());
  const std::string text = control->counters();
  CHECK(std::count(text.begin(), text.end(), '\n') == 2);
  CHECK_CONTAINS(text, "fill_device");
  CHECK_CONTAINS(text, "increment_device");
  CHECK_CONTAINS(text, "\"grid\": [8, 1, 1], \"block\": [128, 1, 1]");
  control->reset_counters();
  CHECK(std::string(control->counters()).empty());
}

TEST_CASE("a chosen call fails, once") {
  XC_NEEDS_EMULATOR();
  const Control* control = emulator_control();
  const DeviceArray<int> device(8);
  void* pointer = nullptr;
  control->fail_call(1);
  CHECK_CUDA(cudaErrorUnknown, cudaMemset(device.get(), 0, 4));
  CHECK_CUDA(cudaSuccess, cudaMemset(device.get(), 0, 4));
  control->fail_call(2);
  CHECK_CUDA(cudaSuccess, cudaMemset(device.get(), 0, 4));
  CHECK_CUDA(cudaErrorMemoryAllocation, cudaMalloc(&pointer, 4));
  control->fail_call(1);
  CHECK_CUDA(cudaErrorUnknown, fill(device.get(), 1, 8, nullptr));
  control->fail_allocation(2);
  REQUIRE_CUDA(cudaMalloc(&pointer, 4));
  REQUIRE_CUDA(cudaMemset(device.get(), 0, 4));
  void* other = nullptr;
  CHECK_CUDA(cudaErrorMemoryAllocation, cudaMallocHost(&other, 4));
  // A release that reports an error releases all the same.
  control->fail_call(1);
  CHECK_CUDA(cudaErrorUnknown, cudaFree(pointer));
  CHECK_CUDA(cudaErrorInvalidValue, cudaFree(pointer));
  control->fail_call(5);
  control->fail_call(0);
  const std::uint64_t before = control->calls();
  REQUIRE_CUDA(cudaMemset(device.get(), 0, 4));
  CHECK(control->calls() == before + 1);
  (void)cudaGetLastError();
}

TEST_CASE("the seed changes the order of work and no result") {
  XC_RANDOM(random);
  const std::vector<float> values = random.normals(5000);
  std::vector<float> first;
  for (int round = 0; round < 6; ++round) {
    const TestSeed seed(static_cast<std::uint64_t>(random.integer(0, 1 << 30)));
    const DeviceArray<float> src(values);
    const DeviceArray<float> total(1);
    REQUIRE_CUDA(sum(src.get(), total.get(), 5000, nullptr));
    const std::vector<float> result = total.values();
    first = round == 0 ? result : first;
    CHECK(result == first);
  }
}

}  // namespace
}  // namespace xception::emulator
