#include "picture_queue.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "interrupt.h"

namespace xception::cli {

struct PictureQueue::State {
  struct Slot {
    bool done = false;
    std::optional<Picture> picture;  // none: there was no memory even to say so of it
  };

  PictureSource source;
  std::vector<Slot> ring;  // picture i stands in slot i % capacity
  std::size_t begun = 0;   // pictures that a thread has taken on
  std::size_t taken = 0;   // pictures that next() has returned
  bool stop = false;
  std::mutex mutex;
  std::condition_variable made;
  std::condition_variable room;

  void work() {
    block_interrupts();
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      room.wait(lock, [this] { return stop || begun < taken + ring.size(); });
      if (stop || begun == source.count) {
        return;
      }
      const std::size_t index = begun++;
      lock.unlock();
      Slot slot = {true, std::nullopt};
      try {
        slot.picture = source.load(index);
      } catch (const std::bad_alloc&) {
      }
      lock.lock();
      ring[index % ring.size()] = std::move(slot);
      made.notify_one();
    }
  }
};

PictureQueue::PictureQueue(PictureSource source, std::size_t threads, std::size_t capacity)
    : state_(std::make_shared<State>()) {
  state_->source = std::move(source);
  state_->ring.resize(capacity);
  try {
    for (; threads_ < threads; ++threads_) {
      std::thread([state = state_] { state->work(); }).detach();
    }
  } catch (const std::system_error&) {
    // The system gives no more threads: those that there are, or none, do the work.
  }
}

PictureQueue::~PictureQueue() {
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->stop = true;
  }
  state_->room.notify_all();
}

std::optional<Picture> PictureQueue::next() {
  State& state = *state_;
  if (state.taken == state.source.count || interrupted() != 0) {
    return std::nullopt;
  }
  if (threads_ == 0) {
    return state.source.load(state.taken++);
  }
  std::unique_lock<std::mutex> lock(state.mutex);
  State::Slot& slot = state.ring[state.taken % state.ring.size()];
  // A signal wakes no condition variable, so look for one now and then.
  while (!state.made.wait_for(lock, std::chrono::milliseconds(50), [&] { return slot.done; })) {
    if (interrupted() != 0) {
      return std::nullopt;
    }
  }
  if (!slot.picture) {
    throw std::bad_alloc();
  }
  std::optional<Picture> picture = std::exchange(slot, {}).picture;
  ++state.taken;
  lock.unlock();
  state.room.notify_all();
  return picture;
}

bool PictureQueue::ready() const {
  const State& state = *state_;
  if (state.taken == state.source.count || interrupted() != 0) {
    return true;
  }
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return threads_ > 0 && state.ring[state.taken % state.ring.size()].done;
}

}  // namespace xception::cli
