#include "kernels/linear.h"

#include <span>

#include "kernels/numeric.h"

namespace xception {

std::vector<std::byte> pack_linear(const LinearProblem& problem, Numeric numeric,
                                   const float* weights) {
  const auto c = static_cast<std::size_t>(problem.c);
  const auto rows = static_cast<std::size_t>(problem.k);
  const std::size_t row_bytes =
      static_cast<std::size_t>(channel_stride(problem.c)) * element_bytes(numeric);
  std::vector<std::byte> packed(rows * row_bytes);  // zero is zero in every numeric
  for (std::size_t row = 0; row < rows; ++row) {
    to_numeric(std::span<const float>(weights + row * c, c), numeric,
               packed.data() + row * row_bytes);
  }
  return packed;
}

}  // namespace xception
