// cvt between types, with what is out of range and every rounding.
#include "tests/emulator/numeric.h"
#include "tests/emulator/ptx_fixture.h"

namespace xception::emulator {
namespace {

template <class T>
std::string type_name() {
  if constexpr (std::is_floating_point_v<T>) {
    return "f" + std::to_string(8 * sizeof(T));
  }
  return (std::is_signed_v<T> ? "s" : "u") + std::to_string(8 * sizeof(T));
}

// From A to D; the register that holds d has at least 16 bits.
template <class D, class A>
void check_integer_pair(Random& random) {
  using Register =
      std::conditional_t<sizeof(D) == 1, std::conditional_t<std::is_signed_v<D>, i16, u16>, D>;
  check_unary<A, Register>(random, "cvt." + type_name<D>() + "." + type_name<A>() + " d, a;",
                           [](A a) { return static_cast<Register>(static_cast<D>(a)); });
  check_unary<A, Register>(
      random, "cvt.sat." + type_name<D>() + "." + type_name<A>() + " d, a;", [](A a) {
        __extension__ typedef __int128 i128;
        const i128 value = a;
        const i128 least = std::numeric_limits<D>::min();
        const i128 most = std::numeric_limits<D>::max();
        return static_cast<Register>(value < least ? least : value > most ? most : value);
      });
}

template <class A>
void check_integers_from(Random& random) {
  check_integer_pair<i8, A>(random);
  check_integer_pair<u8, A>(random);
  check_integer_pair<i16, A>(random);
  check_integer_pair<u16, A>(random);
  check_integer_pair<i32, A>(random);
  check_integer_pair<u32, A>(random);
  check_integer_pair<i64, A>(random);
  check_integer_pair<u64, A>(random);
}

TEST_CASE("integers convert to integers") {
  XC_RANDOM(random);
  check_integers_from<i16>(random);
  check_integers_from<u16>(random);
  check_integers_from<i32>(random);
  check_integers_from<u32>(random);
  check_integers_from<i64>(random);
  check_integers_from<u64>(random);
  // Of a register wider than the type, the low bits count; a wider target is filled by the sign.
  check_unary<u32, i32>(random, "cvt.s32.s8 d, a;", [](u32 a) { return i32{static_cast<i8>(a)}; });
  check_unary<u32, u32>(random, "cvt.s8.s32 d, a;",
                        [](u32 a) { return static_cast<u32>(i32{static_cast<i8>(a)}); });
  check_unary<u32, u32>(random, "cvt.u8.u32 d, a;", [](u32 a) { return a & 0xFF; });
}

template <class T>
T whole(T value, char mode) {
  switch (mode) {
    case 'n':
      return std::nearbyint(value);
    case 'z':
      return std::trunc(value);
    case 'm':
      return std::floor(value);
    default:
      return std::ceil(value);
  }
}

// "In float-to-integer conversions, out-of-range inputs are clamped to the nearest representable
// integer"; of NaN zero, but the top bit where the source is f64 or the target has 64 bits.
template <class D, class A>
void check_to_integer(Random& random) {
  for (const char mode : {'n', 'z', 'm', 'p'}) {
    check_unary<A, D>(
        random,
        std::string("cvt.r") + mode + "i." + type_name<D>() + "." + type_name<A>() + " d, a;",
        [&](A a) {
          if (std::isnan(a)) {
            const bool top = sizeof(A) == 8 || sizeof(D) == 8;
            return static_cast<D>(top ? std::make_unsigned_t<D>(1) << (8 * sizeof(D) - 1) : 0);
          }
          const long double value = whole(static_cast<long double>(a), mode);
          const auto least = static_cast<long double>(std::numeric_limits<D>::min());
          const auto most = static_cast<long double>(std::numeric_limits<D>::max());
          return value <= least  ? std::numeric_limits<D>::min()
                 : value >= most ? std::numeric_limits<D>::max()
                                 : static_cast<D>(value);
        });
  }
}

TEST_CASE("floats convert to integers") {
  XC_RANDOM(random);
  check_to_integer<i32, float>(random);
  check_to_integer<u32, float>(random);
  check_to_integer<i64, float>(random);
  check_to_integer<u64, float>(random);
  check_to_integer<i16, float>(random);
  check_to_integer<u16, float>(random);
  check_to_integer<i32, double>(random);
  check_to_integer<u32, double>(random);
  check_to_integer<i64, double>(random);
  check_to_integer<u64, double>(random);
}

// The two neighbours in D of an integer, and the one that the mode takes.
template <class D, class A>
void check_from_integer(Random& random) {
  const auto exact_compare = [](D rounded, A a) {
    // D to a wide integer is exact here: a is whole and |a| < 2^64.
    __extension__ typedef __int128 i128;
    const auto left = static_cast<i128>(rounded);
    const auto right = static_cast<i128>(a);
    return left < right ? -1 : left > right ? 1 : 0;
  };
  const std::string types = type_name<D>() + "." + type_name<A>() + " d, a;";
  check_unary<A, D>(random, "cvt.rn." + types, [](A a) { return static_cast<D>(a); });
  for (const char mode : {'z', 'm', 'p'}) {
    check_unary<A, D>(random, std::string("cvt.r") + mode + "." + types, [&](A a) {
      D value = static_cast<D>(a);
      const int side = exact_compare(value, a);
      const bool down = mode == 'm' || (mode == 'z' && a > 0);
      if (side > 0 && down) {
        value = std::nextafter(value, -std::numeric_limits<D>::infinity());
      } else if (side < 0 && !down) {
        value = std::nextafter(value, std::numeric_limits<D>::infinity());
      }
      return value;
    });
  }
}

TEST_CASE("integers convert to floats") {
  XC_RANDOM(random);
  check_from_integer<float, i32>(random);
  check_from_integer<float, u32>(random);
  check_from_integer<float, i64>(random);
  check_from_integer<float, u64>(random);
  check_from_integer<float, i16>(random);
  check_from_integer<float, u16>(random);
  check_from_integer<double, i32>(random);
  check_from_integer<double, i64>(random);
  check_from_integer<double, u64>(random);
}

TEST_CASE("floats convert to floats") {
  XC_RANDOM(random);
  check_unary<float, double>(random, "cvt.f64.f32 d, a;",
                             [](float a) { return static_cast<double>(a); });
  check_unary<double, float>(random, "cvt.rn.f32.f64 d, a;",
                             [](double a) { return static_cast<float>(a); });
  const auto toward = [](double a, double target) {
    const float nearest = static_cast<float>(a);
    const bool beyond = target > 0 ? nearest < a : nearest > a;
    return std::isnan(a) || !beyond ? nearest : std::nextafter(nearest, static_cast<float>(target));
  };
  check_unary<double, float>(random, "cvt.rp.f32.f64 d, a;", [&](double a) {
    return toward(a, std::numeric_limits<double>::infinity());
  });
  check_unary<double, float>(random, "cvt.rm.f32.f64 d, a;", [&](double a) {
    return toward(a, -std::numeric_limits<double>::infinity());
  });
  for (const char mode : {'n', 'z', 'm', 'p'}) {
    check_unary<float, float>(random, std::string("cvt.r") + mode + "i.f32.f32 d, a;",
                              [&](float a) { return whole(a, mode); });
    check_unary<double, double>(random, std::string("cvt.r") + mode + "i.f64.f64 d, a;",
                                [&](double a) { return whole(a, mode); });
  }
  check_unary<float, float>(random, "cvt.sat.f32.f32 d, a;",
                            [](float a) { return a > 0 ? std::min(a, 1.0F) : 0.0F; });
  check_unary<float, float>(random, "cvt.ftz.f32.f32 d, a;", [](float a) {
    return std::fpclassify(a) == FP_SUBNORMAL ? std::copysign(0.0F, a) : a;
  });
}

// numeric.h is held against the formats' definitions by tests of its own.
TEST_CASE("16-bit floats convert") {
  XC_RANDOM(random);
  const auto same_f16 = [](float a) { return half_from_float(a); };
  check_unary<float, u16>(random, "cvt.rn.f16.f32 d, a;", same_f16);
  check_unary<float, u16>(random, "cvt.rz.f16.f32 d, a;",
                          [](float a) { return half_from_float(a, Rounding::kZero); });
  check_unary<float, u16>(random, "cvt.rn.bf16.f32 d, a;",
                          [](float a) { return bfloat_from_float(a); });
  check_unary<float, u16>(random, "cvt.rn.relu.bf16.f32 d, a;", [](float a) {
    return bfloat_from_float(std::isnan(a) || a > 0 ? a : 0.0F);
  });
  check_unary<double, u16>(random, "cvt.rn.f16.f64 d, a;",
                           [](double a) { return half_from_double(a); });
  check_unary<u16, float>(random, "cvt.f32.f16 d, a;", [](u16 a) { return half_to_float(a); });
  check_unary<u16, float>(random, "cvt.f32.bf16 d, a;", [](u16 a) { return bfloat_to_float(a); });
  check_unary<i32, u16>(random, "cvt.rn.f16.s32 d, a;",
                        [](i32 a) { return half_from_double(static_cast<double>(a)); });
  check_unary<u16, i32>(random, "cvt.rzi.s32.f16 d, a;", [](u16 a) {
    return to_integer<i32>(half_to_float(a), Rounding::kZero, false);
  });
  check_binary<float, float, u32>(random, "cvt.rn.f16x2.f32 d, a, b;", [](float a, float b) {
    return static_cast<u32>(half_from_float(a)) << 16 | half_from_float(b);
  });
  check_binary<float, float, u32>(random, "cvt.rn.bf16x2.f32 d, a, b;", [](float a, float b) {
    return static_cast<u32>(bfloat_from_float(a)) << 16 | bfloat_from_float(b);
  });
  check_binary<float, float, u32>(random, "cvt.rz.relu.f16x2.f32 d, a, b;", [](float a, float b) {
    const auto one = [](float value) {
      return half_from_float(std::isnan(value) || value > 0 ? value : 0.0F, Rounding::kZero);
    };
    return static_cast<u32>(one(a)) << 16 | one(b);
  });
  const auto rectified = [](float value) { return value < 0 || value == 0 ? 0.0F : value; };
  check_binary<float, float, u32>(random, "cvt.rn.relu.f16x2.f32 d, a, b;", [&](float a, float b) {
    return static_cast<u32>(half_from_float(rectified(a))) << 16 | half_from_float(rectified(b));
  });
  check_binary<float, float, u32>(random, "cvt.rn.relu.bf16x2.f32 d, a, b;", [&](float a, float b) {
    return static_cast<u32>(bfloat_from_float(rectified(a))) << 16 |
           bfloat_from_float(rectified(b));
  });
  check_unary<float, u32>(random, "cvt.rna.tf32.f32 d, a;",
                          [](float a) { return tf32_from_float(a); });
  // f16's largest number, where infinity would come.
  const std::vector<float> large(64, 1e6F);
  CHECK(evaluate<u32>("cvt.rn.satfinite.tf32.f32 d, a;", std::vector<float>(64, INFINITY))[0] ==
        0x7F7FE000);
  CHECK(evaluate<u16>("cvt.rn.f16.f32 d, a;", large)[0] == 0x7C00);
  CHECK(evaluate<u32>("cvt.rna.tf32.f32 d, a;", std::vector<float>(64, -INFINITY))[0] ==
        0xFF800000);
  CHECK(evaluate<u32>("cvt.rn.relu.f16x2.f32 d, a, a;", std::vector<float>(64, NAN))[0] ==
        0x7FFF7FFF);
}

TEST_CASE("cvt.pack clamps into bytes") {
  XC_RANDOM(random);
  check_ternary<i32, i32, u32, u32>(
      random, "cvt.pack.sat.u8.s32.b32 d, a, b, c;", [](i32 a, i32 b, u32 c) {
        const auto byte = [](i32 value) { return static_cast<u32>(std::clamp(value, 0, 255)); };
        return c << 16 | byte(a) << 8 | byte(b);
      });
  check_binary<i32, i32, u32>(random, "cvt.pack.sat.s16.s32 d, a, b;", [](i32 a, i32 b) {
    const auto half = [](i32 value) {
      return static_cast<u32>(std::clamp(value, -32768, 32767)) & 0xFFFF;
    };
    return half(a) << 16 | half(b);
  });
}

TEST_CASE("immediates take the instruction's type") {
  const std::vector<u32> any(64, 0);
  CHECK(evaluate<u32>("mov.f32 d, 0f3FC00000;", any)[0] == 0x3FC00000);
  CHECK(evaluate<u32>("add.f32 d, 0f3F800000, 0.5;", any)[0] == 0x3FC00000);
  CHECK(evaluate<u32>("add.f32 d, 0f3F800000, -1;", any)[0] == 0);
  CHECK(evaluate<u64>("mov.f64 d, 0d3FF8000000000000;", any)[0] == 0x3FF8000000000000);
  CHECK(evaluate<u64>("mov.u64 d, -1;", any)[0] == ~u64{0});
  CHECK(evaluate<u32>("mov.b32 d, 0xFFFFFFFF;", any)[0] == ~0U);
  CHECK(evaluate<u32>("mov.u32 d, 017;", any)[0] == 15);
  CHECK(evaluate<u32>("mov.u32 d, 0b101;", any)[0] == 5);
  CHECK(evaluate<u32>("mov.u32 d, WARP_SZ;", any)[0] == 32);
  CHECK(evaluate<u16>("mov.b16 d, -2;", any)[0] == 0xFFFE);
}

TEST_CASE("vectors of registers are packed and unpacked") {
  XC_RANDOM(random);
  check_binary<u32, u32, u64>(random, "mov.b64 d, {a, b};",
                              [](u32 a, u32 b) { return u64{b} << 32 | a; });
  check_unary<u64, u32>(random, "mov.b64 {x, d}, a;",
                        [](u64 a) { return static_cast<u32>(a >> 32); });
  check_unary<u64, u32>(random, "mov.b64 {_, d}, a;",
                        [](u64 a) { return static_cast<u32>(a >> 32); });
  check_binary<u16, u16, u32>(random, "mov.b32 d, {a, b};",
                              [](u16 a, u16 b) { return u32{b} << 16 | a; });
  check_unary<u32, u16>(random, "{ .reg .b16 t;\nmov.b32 {d, t}, a;\n}",
                        [](u32 a) { return static_cast<u16>(a); });
  check_unary<u64, u64>(random,
                        "{ .reg .b16 r, s, t, u;\nmov.b64 {r, s, t, u}, a;\n"
                        "mov.b64 d, {u, t, s, r};\n}",
                        [](u64 a) {
                          return a >> 48 | (a >> 16 & 0xFFFF0000) | (a << 16 & 0xFFFF00000000) |
                                 a << 48;
                        });
}

}  // namespace
}  // namespace xception::emulator
