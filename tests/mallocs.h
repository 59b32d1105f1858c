// malloc(), calloc() and realloc() of a test program that links mallocs.cc, made to fail at will:
// what libraries in C ask for. Operator new goes through malloc() too.
#pragma once

#include <cstdint>

namespace xception::mallocs {

// False under a sanitizer, which has its own, and with another C library than glibc: nothing fails
// then.
extern const bool kCanFail;

// The request `ahead` further on (0: the next one), of any thread, gets null, once.
void fail_after(std::int64_t ahead);

// Calls it off; true where it had not come yet.
bool cancel_failure();

}  // namespace xception::mallocs
