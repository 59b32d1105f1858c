#include "interrupt.h"

#include <atomic>
#include <csignal>

namespace xception::cli {
namespace {

std::atomic<int> signal_seen{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may not wait for a lock");

constexpr int kInterrupts[] = {SIGINT, SIGTERM, SIGHUP};

// The next one, whichever it is, finds the default.
extern "C" void remember_signal(int number) {
  signal_seen.store(number);
  for (const int each : kInterrupts) {
    struct sigaction action = {};
    sigaction(each, nullptr, &action);
    if (action.sa_handler == remember_signal) {
      action.sa_handler = SIG_DFL;
      sigaction(each, &action, nullptr);
    }
  }
}

}  // namespace

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = remember_signal;
  sigemptyset(&action.sa_mask);
  for (const int number : kInterrupts) {
    struct sigaction before = {};
    sigaction(number, nullptr, &before);
    if (before.sa_handler != SIG_IGN) {  // as nohup leaves SIGHUP
      sigaction(number, &action, nullptr);
    }
  }
}

void ignore_write_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

int interrupted() { return signal_seen.load(); }

void block_interrupts() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : kInterrupts) {
    sigaddset(&set, number);
  }
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

}  // namespace xception::cli
