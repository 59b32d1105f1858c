#include "allocations.h"

#include <dlfcn.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

namespace xception::allocations {
namespace {

std::atomic<std::uint64_t> total{0};
std::atomic<const char*> left_out{nullptr};
std::atomic<std::int64_t> countdown{-1};  // negative: no failure is to come
std::atomic<bool> lasts{false};           // the failure is not the only one
std::atomic<bool> failed{false};

// What dladdr() said of a caller: it takes longer than most allocations.
struct Answer {
  const char* name = nullptr;
  const void* caller = nullptr;
  bool left_out = false;
};

bool is_left_out(const void* caller) {
  const char* name = left_out;
  if (name == nullptr) {
    return false;
  }
  constexpr std::size_t kAnswers = 1024;
  thread_local Answer answers[kAnswers];
  Answer& answer = answers[reinterpret_cast<std::uintptr_t>(caller) / 4 % kAnswers];
  if (answer.name != name || answer.caller != caller) {
    Dl_info info{};
    answer = {name, caller,
              ::dladdr(caller, &info) != 0 && std::strstr(info.dli_fname, name) != nullptr};
  }
  return answer.left_out;
}

void* allocate(std::size_t size, void* caller) {
  if (!is_left_out(caller)) {
    total += size;
    if (countdown >= 0 && countdown.fetch_sub(1) == 0) {
      failed = true;
      if (lasts) {
        countdown = 0;
      }
      return nullptr;
    }
  }
  return std::malloc(size == 0 ? 1 : size);
}

}  // namespace

std::uint64_t total_bytes() { return total; }

void leave_out(const char* name) { left_out = name; }

void fail_after(std::int64_t ahead) {
  failed = false;
  lasts = false;
  countdown = ahead;
}

void fail_from(std::int64_t ahead) {
  fail_after(ahead);
  lasts = true;
}

bool cancel_failure() {
  countdown = -1;
  return !failed;
}

}  // namespace xception::allocations

void* operator new(std::size_t size) {
  void* memory = xception::allocations::allocate(size, __builtin_return_address(0));
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return memory;
}

// AddressSanitizer brings its own of this form, which does not go through the one above.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return xception::allocations::allocate(size, __builtin_return_address(0));
}

void operator delete(void* memory) noexcept { std::free(memory); }

void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
