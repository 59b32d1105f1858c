// Every operator new of a test program that links allocations.cc, counted, and made to fail at
// will.
#pragma once

#include <cstdint>

namespace xception::allocations {

// Bytes asked for since the program began, freed or not.
std::uint64_t total_bytes();

// From now on what a shared library asks for that has `name` in its path is neither counted nor
// made to fail; null: leaves out nothing. `name` must stay as it is.
void leave_out(const char* name);

// The allocation `ahead` further on (0: the next one) throws std::bad_alloc, once.
void fail_after(std::int64_t ahead);

// The same, and so does every one behind it: memory is out.
void fail_from(std::int64_t ahead);

// Calls failures off; true where none had come yet.
bool cancel_failure();

}  // namespace xception::allocations
