// Runs hand-written PTX in tests.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "tests/emulator/launch.h"
#include "tests/random.h"
#include "tests/testing.h"

namespace xception::emulator {

using i8 = std::int8_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

// One device's memory and what is launched on it. Kernels take addresses and 32- or 64-bit numbers,
// all as .u64 parameters.
class PtxMachine {
 public:
  template <class T>
  Address upload(const std::vector<T>& values) {
    const Address address = memory.allocate(std::max<std::size_t>(values.size() * sizeof(T), 1));
    REQUIRE(address != 0);
    REQUIRE_FALSE(memory.copy_in(address, values.data(), values.size() * sizeof(T)).has_value());
    return address;
  }

  Address allocate(std::size_t bytes) { return memory.allocate(bytes); }

  template <class T>
  std::vector<T> download(Address address, std::size_t count) {
    std::vector<T> values(count);
    REQUIRE_FALSE(memory.copy_out(values.data(), address, count * sizeof(T)).has_value());
    return values;
  }

  // The whole result, faults included. `ptx` may lack its first three directives.
  LaunchResult launch_text(const std::string& ptx, const std::vector<std::uint64_t>& parameters) {
    const ParseResult parsed =
        parse_ptx(ptx.find(".version") == std::string::npos
                      ? ".version 8.5\n.target sm_90\n.address_size 64\n" + ptx
                      : ptx);
    if (parsed.fault) {
      FAIL(parsed.fault->message);
    }
    LaunchRequest request;
    request.program = parsed.program;
    const std::vector<KernelInfo> entries = kernels(*parsed.program);
    REQUIRE(entries.size() == 1);
    request.kernel = entries[0].name;
    request.grid = grid;
    request.block = block;
    request.dynamic_shared_bytes = dynamic_shared_bytes;
    request.dependent = dependent;
    request.parameters = std::as_bytes(std::span(parameters));
    std::vector<GlobalAddress> addresses;
    for (const GlobalInfo& global : globals(*parsed.program)) {
      std::vector<std::byte> initial = global.initial;
      initial.resize(std::max<std::size_t>(global.bytes, 1));
      addresses.push_back({global.name, upload(initial)});
    }
    request.globals = addresses;
    request.launch = ++launches_;
    request.seed = seed;
    request.waits_end_early = seed != 0;
    request.threads = threads;
    return launch(request, profile, memory);
  }

  LaunchCounters run(const std::string& ptx, const std::vector<std::uint64_t>& parameters) {
    const LaunchResult result = launch_text(ptx, parameters);
    if (result.fault) {
      FAIL(result.fault->message);
    }
    return result.counters;
  }

  // The fault that a launch must end with.
  Fault fault_of(const std::string& ptx, const std::vector<std::uint64_t>& parameters) {
    const LaunchResult result = launch_text(ptx, parameters);
    REQUIRE(result.fault.has_value());
    return *result.fault;
  }

  DeviceMemory memory{std::size_t{64} << 20};
  DeviceProfile profile;
  Dim3 grid{1, 1, 1};
  Dim3 block{32, 1, 1};
  std::size_t dynamic_shared_bytes = 0;
  bool dependent = false;
  std::uint64_t seed = 0;
  int threads = 1;

 private:
  std::uint32_t launches_ = 0;
};

// A kernel of two pointers, %rd1 and %rd2, and %r1 = %tid.x, with registers of every kind.
inline std::string two_pointer_kernel(const std::string& body,
                                      const std::string& declarations = "") {
  return declarations +
         ".visible .entry k(.param .u64 pa, .param .u64 pb)\n{\n.reg .pred %p<8>;\n"
         ".reg .b16 %h<8>;\n.reg .b32 %r<48>;\n.reg .f32 %f<8>;\n.reg .b64 %rd<16>;\n"
         "ld.param.u64 %rd1, [pa];\nld.param.u64 %rd2, [pb];\nmov.u32 %r1, %tid.x;\n" +
         body + "\nret;\n}\n";
}

// Values that instructions tell apart, among random ones.
template <class T>
std::vector<T> operand_values(Random& random, std::size_t count) {
  std::vector<T> edges;
  if constexpr (std::is_floating_point_v<T>) {
    using Limits = std::numeric_limits<T>;
    for (const T value : {T(0),
                          T(0.5),
                          T(1),
                          T(1.5),
                          T(2.5),
                          T(3),
                          T(1e-3),
                          T(127.5),
                          T(128),
                          T(255.5),
                          T(32767.5),
                          T(65535.5),
                          T(2147483648.0),
                          T(4294967296.0),
                          T(9223372036854775808.0),
                          T(18446744073709551616.0),
                          Limits::min(),
                          Limits::denorm_min(),
                          Limits::max(),
                          Limits::infinity(),
                          Limits::quiet_NaN(),
                          Limits::epsilon()}) {
      edges.push_back(value);
      edges.push_back(-value);
    }
  } else {
    using Limits = std::numeric_limits<T>;
    edges = {T(0),
             T(1),
             T(2),
             T(31),
             T(32),
             T(33),
             T(63),
             T(64),
             T(127),
             T(128),
             T(255),
             static_cast<T>(-1),
             static_cast<T>(-2),
             Limits::min(),
             Limits::max(),
             static_cast<T>(Limits::max() - 1),
             static_cast<T>(Limits::max() / 2)};
  }
  std::vector<T> values(count);
  for (T& value : values) {
    const int choice = random.integer(0, 2);
    if (choice == 0) {
      value =
          edges[static_cast<std::size_t>(random.integer(0, static_cast<int>(edges.size()) - 1))];
    } else if (choice == 1) {
      std::uint64_t bits = static_cast<std::uint32_t>(
          random.integer(std::numeric_limits<int>::min(), std::numeric_limits<int>::max()));
      bits = bits << 32 | static_cast<std::uint32_t>(random.integer(
                              std::numeric_limits<int>::min(), std::numeric_limits<int>::max()));
      std::memcpy(&value, &bits, sizeof value);
    } else if constexpr (std::is_floating_point_v<T>) {
      value = static_cast<T>(random.normal() * 100);
    } else {
      value = static_cast<T>(random.integer(-100, 100));
    }
  }
  return values;
}

// Equal bit by bit, or both NaN.
template <class T>
bool same_value(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a) || std::isnan(b)) {
      return std::isnan(a) && std::isnan(b);
    }
  }
  return std::memcmp(&a, &b, sizeof a) == 0;
}

// Runs `text` in each of many threads: registers d (of D), and a, b, c of the arrays' types; p and
// q are predicates, x and y 32-bit, z 64-bit scratch registers.
template <class D, class A, class B = A, class C = A>
std::vector<D> evaluate(const std::string& text, const std::vector<A>& a,
                        const std::vector<B>& b = {}, const std::vector<C>& c = {}) {
  PtxMachine machine;
  const std::size_t count = a.size();
  const auto type = [](std::size_t bytes) { return ".b" + std::to_string(8 * bytes); };
  std::string ptx =
      ".visible .entry k(.param .u64 pd, .param .u64 pa, .param .u64 pb, .param .u64 pc)\n{\n"
      ".reg .pred p, q;\n.reg .b32 x, y, %r<4>;\n.reg .b64 z, %rd<4>;\n";
  ptx += ".reg " + type(sizeof(D)) + " d;\n.reg " + type(sizeof(A)) + " a;\n.reg " +
         type(sizeof(B)) + " b;\n.reg " + type(sizeof(C)) + " c;\n";
  ptx +=
      "mov.u32 %r0, %tid.x;\nmov.u32 %r1, %ctaid.x;\nmov.u32 %r2, %ntid.x;\n"
      "mad.lo.u32 %r3, %r1, %r2, %r0;\n";
  const auto load = [&](const std::string& name, std::size_t bytes) {
    ptx += "ld.param.u64 %rd0, [p" + name + "];\nmad.wide.u32 %rd1, %r3, " + std::to_string(bytes) +
           ", %rd0;\nld.global" + type(bytes) + " " + name + ", [%rd1];\n";
  };
  load("a", sizeof(A));
  if (!b.empty()) {
    load("b", sizeof(B));
  }
  if (!c.empty()) {
    load("c", sizeof(C));
  }
  ptx += text + "\nld.param.u64 %rd0, [pd];\nmad.wide.u32 %rd1, %r3, " + std::to_string(sizeof(D)) +
         ", %rd0;\nst.global" + type(sizeof(D)) + " [%rd1], d;\nret;\n}\n";
  REQUIRE(count % 64 == 0);
  machine.grid.x = static_cast<unsigned>(count / 64);
  machine.block.x = 64;
  const Address result = machine.allocate(count * sizeof(D));
  machine.run(ptx, {result, machine.upload(a), machine.upload(b), machine.upload(c)});
  return machine.download<D>(result, count);
}

template <class T>
std::string show(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%a", static_cast<double>(value));
    return text.data();
  } else {
    return std::to_string(value);
  }
}

// Holds an instruction against a function of C++ on `kOperands` random operands.
constexpr std::size_t kOperands = 2048;

template <class A, class D, class Expected>
void check_unary(Random& random, const std::string& text, const Expected& expected) {
  const std::vector<A> a = operand_values<A>(random, kOperands);
  const std::vector<D> d = evaluate<D>(text, a);
  for (std::size_t i = 0; i < a.size(); ++i) {
    const D want = expected(a[i]);
    if (!same_value(d[i], want)) {
      FAIL_CHECK(text << " of " << show(a[i]) << " gave " << show(d[i]) << ", not " << show(want));
      return;
    }
  }
  SUCCEED();
}

template <class A, class B, class D, class Expected>
void check_binary(Random& random, const std::string& text, const Expected& expected) {
  const std::vector<A> a = operand_values<A>(random, kOperands);
  std::vector<B> b = operand_values<B>(random, kOperands);
  const std::vector<D> d = evaluate<D>(text, a, b);
  for (std::size_t i = 0; i < a.size(); ++i) {
    const D want = expected(a[i], b[i]);
    if (!same_value(d[i], want)) {
      FAIL_CHECK(text << " of " << show(a[i]) << ", " << show(b[i]) << " gave " << show(d[i])
                      << ", not " << show(want));
      return;
    }
  }
  SUCCEED();
}

template <class A, class B, class C, class D, class Expected>
void check_ternary(Random& random, const std::string& text, const Expected& expected) {
  const std::vector<A> a = operand_values<A>(random, kOperands);
  const std::vector<B> b = operand_values<B>(random, kOperands);
  const std::vector<C> c = operand_values<C>(random, kOperands);
  const std::vector<D> d = evaluate<D>(text, a, b, c);
  for (std::size_t i = 0; i < a.size(); ++i) {
    const D want = expected(a[i], b[i], c[i]);
    if (!same_value(d[i], want)) {
      FAIL_CHECK(text << " of " << show(a[i]) << ", " << show(b[i]) << ", " << show(c[i])
                      << " gave " << show(d[i]) << ", not " << show(want));
      return;
    }
  }
  SUCCEED();
}

}  // namespace xception::emulator
