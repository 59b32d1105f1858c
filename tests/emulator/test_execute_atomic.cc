// Atomics: every operation on every type that it has, on random operands and in both memories; what
// they leave behind, what they give back, and how they add up over blocks.
#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "tests/emulator/numeric.h"
#include "tests/emulator/ptx_fixture.h"

namespace xception::emulator {
namespace {

// Which memory an atomic works on, with the text that puts `a` where %rd1, or %r1, points and the
// way to say that.
struct Place {
  std::string space;
  std::string put;
  std::string address;
};

std::vector<Place> places(std::size_t bytes) {
  const std::string width = std::to_string(bytes);
  return {{"global", "ld.param.u64 %rd0, [pa];\nmad.wide.u32 %rd1, %r3, " + width + ", %rd0;\n",
           "[%rd1]"},
          {"shared",
           ".shared .align 8 .b8 s[512];\nmov.u32 %r1, s;\nmad.lo.u32 %r1, %r0, " + width +
               ", %r1;\nst.shared.b" + std::to_string(8 * bytes) + " [%r1], a;\n",
           "[%r1]"}};
}

// `operation` with its type ("add.u32"); `swaps`: it has a third operand. `expected` gives what the
// place holds afterwards, from what it held and the operands.
template <class T, class Expected>
void check(Random& random, const std::string& operation, bool swaps, const Expected& expected) {
  std::vector<T> a = operand_values<T>(random, kOperands);
  const std::vector<T> b = operand_values<T>(random, kOperands);
  const std::vector<T> c = operand_values<T>(random, kOperands);
  if (swaps) {
    for (std::size_t i = 0; i < a.size(); i += 2) {
      a[i] = b[i];
    }
  }
  for (const Place& place : places(sizeof(T))) {
    const std::string operands = place.address + (swaps ? ", b, c;\n" : ", b;\n");
    const std::string atom =
        place.put + "atom." + place.space + '.' + operation + " d, " + operands;
    const std::string load =
        "ld." + place.space + ".b" + std::to_string(8 * sizeof(T)) + " d, " + place.address + ';';
    INFO("atom." << place.space << '.' << operation);
    const std::vector<T> before = evaluate<T>(atom, a, b, c);
    std::vector<std::vector<T>> after = {evaluate<T>(atom + load, a, b, c)};
    if (!swaps && operation.substr(0, 4) != "exch") {
      const std::string red = place.put + "red." + place.space + '.' + operation + ' ' + operands;
      after.push_back(evaluate<T>(red + load, a, b, c));
    }
    for (std::size_t i = 0; i < a.size(); ++i) {
      const T want = expected(a[i], b[i], c[i]);
      CAPTURE(show(a[i]), show(b[i]), show(c[i]), show(want));
      REQUIRE(same_value(before[i], a[i]));
      for (const std::vector<T>& values : after) {
        REQUIRE(same_value(values[i], want));
      }
    }
  }
}

template <class T, class Expected>
void check_binary_atomic(Random& random, const std::string& operation, const Expected& expected) {
  check<T>(random, operation, false, [&](T a, T b, T) { return static_cast<T>(expected(a, b)); });
}

template <class T>
void check_order(Random& random, const std::string& type) {
  check_binary_atomic<T>(random, "min." + type, [](T a, T b) { return std::min(a, b); });
  check_binary_atomic<T>(random, "max." + type, [](T a, T b) { return std::max(a, b); });
}

template <class T>
void check_bits(Random& random, const std::string& type) {
  check_binary_atomic<T>(random, "and." + type, [](T a, T b) { return a & b; });
  check_binary_atomic<T>(random, "or." + type, [](T a, T b) { return a | b; });
  check_binary_atomic<T>(random, "xor." + type, [](T a, T b) { return a ^ b; });
  check_binary_atomic<T>(random, "exch." + type, [](T, T b) { return b; });
  check<T>(random, "cas." + type, true, [](T a, T b, T c) { return a == b ? c : a; });
}

// Each of 256 threads once, on one place; results do not depend on the order.
void check_sum(const std::string& operation, const std::string& type, u64 initial, u64 operand,
               u64 want) {
  INFO(operation << "." << type);
  PtxMachine machine;
  machine.seed = 3;
  machine.block.x = 128;
  machine.grid.x = 2;
  machine.threads = 2;
  const Address place = machine.upload<u64>({initial, operand});
  const std::string width =
      type.ends_with("x2") ? "32" : type.substr(type.find_first_of("0123456789"), 2);
  machine.run(two_pointer_kernel(".reg .b" + width + " v;\nld.global.b" + width +
                                 " v, [%rd1+8];\nred.relaxed.gpu.global." + operation + "." + type +
                                 " [%rd1], v;"),
              {place, place});
  CHECK(machine.download<u64>(place, 1)[0] == want);
}

}  // namespace

TEST_CASE("atomics on whole numbers") {
  XC_RANDOM(random);
  const auto add = [](auto a, auto b) { return a + b; };
  check_binary_atomic<u32>(random, "add.u32", add);
  check_binary_atomic<u32>(random, "add.s32", add);
  check_binary_atomic<u64>(random, "add.u64", add);
  check_order<u32>(random, "u32");
  check_order<i32>(random, "s32");
  check_order<u64>(random, "u64");
  check_order<i64>(random, "s64");
  check_binary_atomic<u32>(random, "inc.u32", [](u32 a, u32 b) { return a >= b ? 0 : a + 1; });
  check_binary_atomic<u32>(random, "dec.u32",
                           [](u32 a, u32 b) { return a == 0 || a > b ? b : a - 1; });
}

TEST_CASE("atomics on bits") {
  XC_RANDOM(random);
  check_bits<u32>(random, "b32");
  check_bits<u64>(random, "b64");
  check<u16>(random, "cas.b16", true, [](u16 a, u16 b, u16 c) { return a == b ? c : a; });
}

TEST_CASE("atomics on floating point") {
  XC_RANDOM(random);
  check_binary_atomic<float>(random, "add.f32", [](float a, float b) { return a + b; });
  check_binary_atomic<double>(random, "add.f64", [](double a, double b) { return a + b; });
  const auto both = [](auto add, u32 a, u32 b) {
    const auto half = [&](int shift) {
      return static_cast<u32>(add(static_cast<u16>(a >> shift), static_cast<u16>(b >> shift)));
    };
    return half(16) << 16 | half(0);
  };
  // A double holds sums of 16-bit values exactly, or is off by less than their rounding can tell.
  const auto add_half = [](u16 a, u16 b) {
    return half_from_double(double{half_to_float(a)} + double{half_to_float(b)});
  };
  const auto add_bfloat = [](u16 a, u16 b) {
    return bfloat_from_double(double{bfloat_to_float(a)} + double{bfloat_to_float(b)});
  };
  check_binary_atomic<u16>(random, "add.noftz.f16", add_half);
  check_binary_atomic<u16>(random, "add.noftz.bf16", add_bfloat);
  check_binary_atomic<u32>(random, "add.noftz.f16x2",
                           [&](u32 a, u32 b) { return both(add_half, a, b); });
  check_binary_atomic<u32>(random, "add.noftz.bf16x2",
                           [&](u32 a, u32 b) { return both(add_bfloat, a, b); });
}

TEST_CASE("atomics add up over blocks") {
  check_sum("add", "u32", 5, 3, 5 + 768);
  check_sum("add", "u64", 5, 1ULL << 40, 5 + (256ULL << 40));
  check_sum("inc", "u32", 0, 99, 256 % 100);
  check_sum("dec", "u32", 0, 99, 100 - 256 % 100);
  check_sum("xor", "b32", 0xF0, 0x3C, 0xF0);
  check_sum("add", "f32", float_bits(1.0F), float_bits(0.5F), float_bits(129.0F));
  check_sum("add", "f64", std::bit_cast<u64>(1.0), std::bit_cast<u64>(0.5),
            std::bit_cast<u64>(129.0));
  check_sum("add.noftz", "f16", half_from_float(1), half_from_float(0.5F), half_from_float(129));
  check_sum("add.noftz", "bf16x2", u64{bfloat_from_float(2)} << 16 | bfloat_from_float(0),
            u64{bfloat_from_float(-1)} << 16 | bfloat_from_float(1),
            u64{bfloat_from_float(-254)} << 16 | bfloat_from_float(256));
}

TEST_CASE("every thread gets another of the values before") {
  PtxMachine machine;
  machine.block.x = 64;
  const Address place = machine.upload<u32>({0, 0});
  const Address to = machine.allocate(256);
  machine.run(two_pointer_kernel("atom.global.add.u32 %r2, [%rd1], 1;\n"
                                 "mad.wide.u32 %rd3, %r1, 4, %rd2;\nst.global.u32 [%rd3], %r2;"),
              {place, to});
  std::vector<u32> got = machine.download<u32>(to, 64);
  std::sort(got.begin(), got.end());
  std::vector<u32> every(64);
  std::iota(every.begin(), every.end(), 0U);
  CHECK(got == every);
}

TEST_CASE("a symbol is an atomic's address too") {
  PtxMachine machine;
  machine.block.x = 1;
  const Address to = machine.allocate(16);
  machine.run(
      two_pointer_kernel(".shared .align 8 .b64 s;\nst.shared.u64 [s], 9;\n"
                         "atom.shared.exch.b64 %rd3, [s], 11;\nst.global.u64 [%rd1], %rd3;\n"
                         "ld.shared.u64 %rd3, [s];\nst.global.u64 [%rd1+8], %rd3;"),
      {to, to});
  CHECK(machine.download<u64>(to, 2) == std::vector<u64>{9, 11});
}

}  // namespace xception::emulator
