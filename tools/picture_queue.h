// Pictures made by several threads and taken in order.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "picture.h"

namespace xception::cli {

// Holds at most `capacity` finished or begun pictures ahead of the one that is taken next, so that
// memory stays bounded however slow the network is. One thread takes.
class PictureQueue {
 public:
  // With 0 threads the pictures are made in next(), on the caller's thread, and a signal that comes
  // while one is read or decoded shows only when it is finished.
  PictureQueue(PictureSource source, std::size_t threads, std::size_t capacity);
  // Does not wait: a thread may be reading a pipe that nobody writes to. It ends by itself.
  ~PictureQueue();
  PictureQueue(const PictureQueue&) = delete;
  PictureQueue& operator=(const PictureQueue&) = delete;

  // The next picture; nothing after the last one, or when the program was interrupted. Throws
  // std::bad_alloc where a thread had no memory left.
  std::optional<Picture> next();

  // Whether next() would return without waiting for a picture to be made.
  bool ready() const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the threads
  std::size_t threads_ = 0;
};

}  // namespace xception::cli
