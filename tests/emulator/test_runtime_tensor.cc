// Tensor maps from the driver's function to the kernel that copies by them.

#include "tests/emulator/test_runtime_tensor.h"

#include <set>

#include "tests/emulator/test_runtime_fixture.h"

namespace xception::emulator {
namespace {

constexpr int kWidth = 52;  // of the tensor, in rows of 56
constexpr int kPitch = 56;
constexpr int kHeight = 300;

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

CUtensorMap map_of(const int* tensor) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult status = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 13000
  REQUIRE_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                cudaEnableDefault, &status));
#else
  REQUIRE_CUDA(
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &status));
#endif
  REQUIRE(status == cudaDriverEntryPointSuccess);
  CUtensorMap map;
  const cuuint64_t extents[] = {kWidth, kHeight};
  const cuuint64_t strides[] = {kPitch * sizeof(int)};
  const cuuint32_t box[] = {kRingColumns, kRingRows};
  const cuuint32_t steps[] = {1, 1};
  REQUIRE(reinterpret_cast<EncodeTiled>(function)(
              &map, CU_TENSOR_MAP_DATA_TYPE_INT32, 2, const_cast<int*>(tensor), extents, strides,
              box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
              CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS);
  return map;
}

bool has_tensor_copies() {
  cudaDeviceProp properties;
  REQUIRE_CUDA(cudaGetDeviceProperties(&properties, 0));
  return properties.major >= 9;
}

std::vector<int> numbers() {
  std::vector<int> values(static_cast<std::size_t>(kPitch) * kHeight);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<int>(i * 7919 % 10007);
  }
  return values;
}

TEST_CASE("a ring of boxes adds up, whatever the seed") {
  if (!has_tensor_copies()) {
    SUCCEED("the device has no tensor copies");
    return;
  }
  const std::vector<int> values = numbers();
  const DeviceArray<int> tensor(values);
  const CUtensorMap map = map_of(tensor.get());
  const DeviceArray<int> sums(static_cast<std::size_t>(kRingColumns) * kRingRows);
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const TestSeed order(seed);
    for (const auto& [column, first_row] :
         {std::pair(0, 0), std::pair(-5, -20), std::pair(30, 7), std::pair(60, 0)}) {
      CAPTURE(seed, column, first_row);
      REQUIRE_CUDA(sum_boxes(RingFault::kNone, map, column, first_row, sums.get()));
      std::vector<int> expected(static_cast<std::size_t>(kRingColumns) * kRingRows);
      for (int y = 0; y < kRingRows * kRingTiles; ++y) {
        for (int x = 0; x < kRingColumns; ++x) {
          const int row = first_row + y;
          if (row >= 0 && row < kHeight && column + x >= 0 && column + x < kWidth) {
            expected[static_cast<std::size_t>(y % kRingRows * kRingColumns + x)] +=
                values[static_cast<std::size_t>(row * kPitch + column + x)];
          }
        }
      }
      CHECK(sums.values() == expected);
    }
  }
}

TEST_CASE("a ring of boxes with a fault in it is caught", "[faults]") {
  XC_NEEDS_EMULATOR();
  if (!has_tensor_copies()) {
    SUCCEED("the device has no tensor copies");
    return;
  }
  const std::string race = "shared race";
  const std::string in_flight = "async copy not waited for";
  const std::string nothing = "uninitialised read";
  const std::string misuse = "mbarrier misuse";
  // Which of several a fault shows as first is a matter of the order.
  const std::pair<RingFault, std::set<std::string>> kCases[] = {
      {RingFault::kNoWait, {in_flight, nothing}},
      {RingFault::kEarlyRelease, {race, in_flight}},
      {RingFault::kNoRelease, {"deadlock"}},
      {RingFault::kNoSyncwarp, {race}},
      {RingFault::kHasty, {race, in_flight, misuse}},
      {RingFault::kWrongBytes, {"deadlock"}},
      {RingFault::kTwoArrivals, {misuse}},
      {RingFault::kNotInitialised, {nothing}},
  };
  CHECK(std::size(kCases) + 1 == static_cast<std::size_t>(RingFault::kCount));
  for (const auto& [fault, kinds] : kCases) {
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      CAPTURE(static_cast<int>(fault), seed);
      const TestSeed order(seed);
      {
        const DeviceArray<int> tensor(numbers());
        const DeviceArray<int> sums(static_cast<std::size_t>(kRingColumns) * kRingRows);
        CHECK(sum_boxes(fault, map_of(tensor.get()), 0, 0, sums.get()) != cudaSuccess);
      }
      const std::string report = emulator_control()->last_fault();
      INFO(report);
      CHECK(kinds.contains(report.substr(0, report.find(':'))));
      CHECK_CUDA(cudaSuccess, cudaDeviceReset());
      (void)cudaGetLastError();
    }
  }
}

}  // namespace
}  // namespace xception::emulator
