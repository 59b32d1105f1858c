// Reads and writes that come to an end on any descriptor: a signal interrupts none, and one that
// does not block, as another process may have set a stream that they share, is waited for.
#pragma once

#include <cstddef>

namespace xception {

// As many bytes as there are, at most `size`; 0 at the end, -1 with errno on failure.
std::ptrdiff_t read_some(int descriptor, void* data, std::size_t size);

// Writes all of it; 0 or the error number.
int write_all(int descriptor, const char* data, std::size_t size);

}  // namespace xception
