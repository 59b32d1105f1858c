#include <cstdint>
#include <set>
#include <string>
#include <type_traits>

#include "testing.h"
#include "xception/status.h"
#include "xception/tensor.h"

using namespace xception;

TEST_CASE("A status carries its code and message") {
  CHECK(Status().ok());
  const Status failure(Code::kIo, "cannot read a.bin");
  CHECK_FALSE(failure.ok());
  CHECK(failure.with_context("model a").message() == "model a: cannot read a.bin");
  CHECK(failure.with_context("model a").code() == Code::kIo);
  CHECK(Status().with_context("nothing").ok());
}

TEST_CASE("A result is a value or a failure") {
  const Result<int> seven(7);
  CHECK(seven.ok());
  CHECK(*seven == 7);
  const Result<int> none(Status(Code::kNotFound, "no such tensor"));
  CHECK_FALSE(none.ok());
  CHECK(none.status().code() == Code::kNotFound);
}

TEST_CASE("Shapes count and print") {
  const Shape shape{2, 19, 19, 728};
  CHECK(shape.elements() == 525616);
  CHECK(to_string(shape) == "2x19x19x728");
}

TEST_CASE("Every code has a name of its own") {
  CHECK(std::string(code_name(Code::kOk)) == "ok");
  CHECK(std::string(code_name(Code::kBadModel)) == "bad_model");
  std::set<std::string> names;
  const int last = static_cast<int>(Code::kInternal);
  for (int code = 0; code <= last; ++code) {
    names.insert(code_name(static_cast<Code>(code)));
  }
  CHECK(names.size() == last + 1U);
  CHECK(names.count(code_name(static_cast<Code>(last + 1))) == 0);
}

TEST_CASE("A view to write through is one to read through, and no other way round") {
  static_assert(!std::is_convertible_v<TensorView<const float>, TensorView<float>>);
  static_assert(!std::is_convertible_v<TensorView<float>, TensorView<const std::uint8_t>>);
  float values[12] = {};
  const TensorView<float> writable = {values, {1, 2, 2, 3}, Layout::kNCHW};
  const TensorView<const float> readable = writable;
  CHECK(readable.data == values);
  CHECK(readable.shape == writable.shape);
  CHECK(readable.layout == Layout::kNCHW);
}
