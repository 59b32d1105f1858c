// f32, f64, f16 and bf16 arithmetic against C++ in higher precision.
#include <cfenv>
#include <functional>

#include "tests/emulator/numeric.h"
#include "tests/emulator/ptx_fixture.h"

namespace xception::emulator {
namespace {

// What the host makes of `operation` in a rounding mode. Opaque, so that the operation stays
// between the two changes of the mode.
template <class Operation, class... Sources>
[[gnu::noipa]] auto in_mode(int mode, Operation operation, Sources... sources) {
  std::fesetround(mode);
  volatile auto result = operation(sources...);
  std::fesetround(FE_TONEAREST);
  return static_cast<decltype(operation(sources...))>(result);
}

constexpr std::pair<const char*, int> kModes[] = {
    {"rn", FE_TONEAREST}, {"rz", FE_TOWARDZERO}, {"rm", FE_DOWNWARD}, {"rp", FE_UPWARD}};

// Operands that reach the operation in the mode, not folded before.
template <class T>
T hidden(T value) {
  volatile T copy = value;
  return copy;
}

template <class T>
void check_rounded(Random& random, const std::string& type) {
  for (const auto& [name, mode] : kModes) {
    const std::string suffix = "." + std::string(name) + "." + type + " ";
    check_binary<T, T, T>(random, "add" + suffix + "d, a, b;", [&, m = mode](T a, T b) {
      return in_mode(
          m, [](T x, T y) { return hidden(x) + hidden(y); }, a, b);
    });
    check_binary<T, T, T>(random, "sub" + suffix + "d, a, b;", [&, m = mode](T a, T b) {
      return in_mode(
          m, [](T x, T y) { return hidden(x) - hidden(y); }, a, b);
    });
    check_binary<T, T, T>(random, "mul" + suffix + "d, a, b;", [&, m = mode](T a, T b) {
      return in_mode(
          m, [](T x, T y) { return hidden(x) * hidden(y); }, a, b);
    });
    check_binary<T, T, T>(random, "div" + suffix + "d, a, b;", [&, m = mode](T a, T b) {
      return in_mode(
          m, [](T x, T y) { return hidden(x) / hidden(y); }, a, b);
    });
    check_ternary<T, T, T, T>(random, "fma" + suffix + "d, a, b, c;", [&, m = mode](T a, T b, T c) {
      return in_mode(
          m, [](T x, T y, T z) { return std::fma(hidden(x), hidden(y), hidden(z)); }, a, b, c);
    });
    check_unary<T, T>(random, "sqrt" + suffix + "d, a;", [&, m = mode](T a) {
      return in_mode(
          m, [](T x) { return std::sqrt(hidden(x)); }, a);
    });
    check_unary<T, T>(random, "rcp" + suffix + "d, a;", [&, m = mode](T a) {
      return in_mode(
          m, [](T x) { return T(1) / hidden(x); }, a);
    });
  }
}

TEST_CASE("f32 and f64 arithmetic in every rounding") {
  XC_RANDOM(random);
  check_rounded<float>(random, "f32");
  check_rounded<double>(random, "f64");
}

TEST_CASE("f32 and f64 are rounded to nearest where nothing is said") {
  XC_RANDOM(random);
  check_binary<float, float, float>(random, "add.f32 d, a, b;", std::plus<float>());
  check_binary<float, float, float>(random, "sub.f32 d, a, b;", std::minus<float>());
  check_binary<float, float, float>(random, "mul.f32 d, a, b;", std::multiplies<float>());
  check_binary<double, double, double>(random, "add.f64 d, a, b;", std::plus<double>());
  check_binary<double, double, double>(random, "sub.f64 d, a, b;", std::minus<double>());
  check_binary<double, double, double>(random, "mul.f64 d, a, b;", std::multiplies<double>());
}

TEST_CASE("the rounding mode of one instruction does not reach the next") {
  const std::vector<float> a(64, 1.0F);
  const std::vector<float> b(64, 1e-10F);
  const std::vector<float> sums = evaluate<float>(
      "{ .reg .f32 t;\nadd.rp.f32 t, a, b;\nadd.f32 d, a, b;\nsub.f32 d, t, d;\n}", a, b);
  CHECK(sums[0] == std::numeric_limits<float>::epsilon());
}

TEST_CASE("f32 flushes and saturates where told to") {
  XC_RANDOM(random);
  const auto flush = [](float a) {
    return std::fpclassify(a) == FP_SUBNORMAL ? std::copysign(0.0F, a) : a;
  };
  check_binary<float, float, float>(random, "add.ftz.f32 d, a, b;",
                                    [&](float a, float b) { return flush(flush(a) + flush(b)); });
  check_binary<float, float, float>(random, "mul.ftz.sat.f32 d, a, b;", [&](float a, float b) {
    const float product = flush(flush(a) * flush(b));
    return product > 0 ? std::min(product, 1.0F) : 0.0F;  // NaN becomes +0
  });
  check_ternary<float, float, float, float>(random, "fma.rn.sat.f32 d, a, b, c;",
                                            [](float a, float b, float c) {
                                              const float sum = std::fma(a, b, c);
                                              return sum > 0 ? std::min(sum, 1.0F) : 0.0F;
                                            });
  // Products around the least normal number.
  std::vector<float> a(kOperands);
  for (float& value : a) {
    value = std::ldexp(static_cast<float>(random.integer(1 << 23, (1 << 24) - 1)),
                       -149 + random.integer(0, 3));
  }
  const std::vector<float> products = evaluate<float>("mul.ftz.f32 d, a, 0f3F000000;", a);
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(same_value(products[i], flush(a[i] * 0.5F)));
  }
}

TEST_CASE("f32 NaN results are canonical") {
  const float nan = float_from_bits(0x7F800123);
  const std::vector<float> a(64, nan);
  const std::vector<float> b(64, 1.0F);
  CHECK(evaluate<u32>("add.f32 d, a, b;", a, b)[0] == 0x7FFFFFFF);
  CHECK(evaluate<u32>("max.NaN.f32 d, a, b;", a, b)[0] == 0x7FFFFFFF);
  // neg and abs change the sign's bit and nothing else.
  CHECK(evaluate<u32>("neg.f32 d, a;", a)[0] == 0xFF800123);
  CHECK(evaluate<u32>("abs.f32 d, a;", a)[0] == 0x7F800123);
}

// The function of a double, rounded once: what the emulator makes of .approx.
TEST_CASE("approximate functions are exact to half a unit") {
  XC_RANDOM(random);
  const auto check = [&](const std::string& text, double (*function)(double)) {
    check_unary<float, float>(random, text, [&](float a) {
      return static_cast<float>(function(static_cast<double>(a)));
    });
  };
  check("ex2.approx.f32 d, a;", [](double a) { return std::exp2(a); });
  check_unary<float, float>(random, "ex2.approx.ftz.f32 d, a;", [](float a) {
    const auto flush = [](float value) {
      return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0F, value) : value;
    };
    return flush(static_cast<float>(std::exp2(static_cast<double>(flush(a)))));
  });
  check("lg2.approx.f32 d, a;", [](double a) { return std::log2(a); });
  check("sin.approx.f32 d, a;", [](double a) { return std::sin(a); });
  check("cos.approx.f32 d, a;", [](double a) { return std::cos(a); });
  check("tanh.approx.f32 d, a;", [](double a) { return std::tanh(a); });
  check("rsqrt.approx.f32 d, a;", [](double a) { return 1 / std::sqrt(a); });
  check("sqrt.approx.f32 d, a;", [](double a) { return std::sqrt(a); });
  check("rcp.approx.f32 d, a;", [](double a) { return 1 / a; });
  check_binary<float, float, float>(random, "div.full.f32 d, a, b;", [](float a, float b) {
    return static_cast<float>(static_cast<double>(a) / static_cast<double>(b));
  });
}

template <class T>
T expected_minimum(T a, T b, bool nan) {
  if (std::isnan(a) || std::isnan(b)) {
    return nan ? std::numeric_limits<T>::quiet_NaN() : std::isnan(a) ? b : a;
  }
  if (a == 0 && b == 0) {
    return std::signbit(a) || std::signbit(b) ? -T(0) : T(0);
  }
  return a < b ? a : b;
}

TEST_CASE("minima, maxima and signs") {
  XC_RANDOM(random);
  for (const bool first_negative : {false, true}) {
    const std::vector<float> a(64, first_negative ? -0.0F : 0.0F);
    const std::vector<float> b(64, first_negative ? 0.0F : -0.0F);
    CHECK(std::signbit(evaluate<float>("min.f32 d, a, b;", a, b)[0]));
    CHECK_FALSE(std::signbit(evaluate<float>("max.f32 d, a, b;", a, b)[0]));
    CHECK_FALSE(std::signbit(evaluate<float>("max.NaN.f32 d, a, b;", a, b)[0]));
  }
  for (const bool nan : {false, true}) {
    const std::string suffix = nan ? ".NaN" : "";
    check_binary<float, float, float>(
        random, "min" + suffix + ".f32 d, a, b;",
        [&](float a, float b) { return expected_minimum(a, b, nan); });
    check_binary<float, float, float>(
        random, "max" + suffix + ".f32 d, a, b;",
        [&](float a, float b) { return -expected_minimum(-a, -b, nan); });
  }
  check_binary<double, double, double>(
      random, "min.f64 d, a, b;", [](double a, double b) { return expected_minimum(a, b, false); });
  check_binary<double, double, double>(random, "max.f64 d, a, b;", [](double a, double b) {
    return -expected_minimum(-a, -b, false);
  });
  check_binary<float, float, float>(random, "max.xorsign.abs.f32 d, a, b;", [](float a, float b) {
    const float magnitude = -expected_minimum(-std::fabs(a), -std::fabs(b), false);
    return std::signbit(a) != std::signbit(b) ? -magnitude : magnitude;
  });
  check_unary<float, float>(random, "neg.f32 d, a;", [](float a) { return -a; });
  check_unary<double, double>(random, "abs.f64 d, a;", [](double a) { return std::fabs(a); });
  check_binary<float, float, float>(random, "copysign.f32 d, a, b;",
                                    [](float a, float b) { return std::copysign(b, a); });
}

template <class T>
void check_comparisons(Random& random, const std::string& type) {
  const auto check = [&](const std::string& name, auto holds) {
    check_binary<T, T, u32>(random, "setp." + name + "." + type + " p, a, b;\nselp.b32 d, 1, 0, p;",
                            [&](T a, T b) { return holds(a, b) ? 1U : 0U; });
  };
  const auto either_nan = [](T a, T b) { return std::isnan(a) || std::isnan(b); };
  check("eq", [](T a, T b) { return a == b; });
  check("ne", [&](T a, T b) { return a != b && !either_nan(a, b); });
  check("lt", [](T a, T b) { return a < b; });
  check("le", [](T a, T b) { return a <= b; });
  check("gt", [](T a, T b) { return a > b; });
  check("ge", [](T a, T b) { return a >= b; });
  check("equ", [&](T a, T b) { return a == b || either_nan(a, b); });
  check("neu", [&](T a, T b) { return a != b || either_nan(a, b); });
  check("ltu", [&](T a, T b) { return a < b || either_nan(a, b); });
  check("leu", [&](T a, T b) { return a <= b || either_nan(a, b); });
  check("gtu", [&](T a, T b) { return a > b || either_nan(a, b); });
  check("geu", [&](T a, T b) { return a >= b || either_nan(a, b); });
  check("num", [&](T a, T b) { return !either_nan(a, b); });
  check("nan", [&](T a, T b) { return either_nan(a, b); });
}

TEST_CASE("floats compare, with and without NaN") {
  XC_RANDOM(random);
  check_comparisons<float>(random, "f32");
  check_comparisons<double>(random, "f64");
  check_binary<float, float, float>(random, "set.gt.f32.f32 d, a, b;",
                                    [](float a, float b) { return a > b ? 1.0F : 0.0F; });
  check_binary<float, float, float>(random, "set.ge.f32.f32 d, a, b;",
                                    [](float a, float b) { return a >= b ? 1.0F : 0.0F; });
  check_binary<float, float, float>(random, "set.eq.f32.f32 d, a, b;",
                                    [](float a, float b) { return a == b ? 1.0F : 0.0F; });
  check_unary<float, float>(random, "set.nan.f32.f32 d, a, a;",
                            [](float a) { return std::isnan(a) ? 1.0F : 0.0F; });
  check_binary<u16, u16, u16>(random, "set.nan.f16.f16 d, a, b;", [](u16 a, u16 b) {
    return std::isnan(half_to_float(a)) || std::isnan(half_to_float(b)) ? u16{0x3C00} : u16{0};
  });
  check_unary<float, u32>(random, "testp.subnormal.f32 p, a;\nselp.b32 d, 1, 0, p;",
                          [](float a) { return std::fpclassify(a) == FP_SUBNORMAL ? 1U : 0U; });
  check_unary<double, u32>(random, "testp.finite.f64 p, a;\nselp.b32 d, 1, 0, p;",
                           [](double a) { return std::isfinite(a) ? 1U : 0U; });
  check_unary<float, u32>(random, "testp.notanumber.f32 p, a;\nselp.b32 d, 1, 0, p;",
                          [](float a) { return std::isnan(a) ? 1U : 0U; });
}

// A 16-bit format: its values as doubles, and the nearest value to a double by searching all of
// them, which is independent of any conversion.
struct Format16 {
  const char* name;
  double (*value)(u16);
  int mantissa_bits;
  int exponent_bits;
};

double f16_value(u16 bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  return sign *
         (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

double bf16_value(u16 bits) { return float_from_bits(u32{bits} << 16); }

constexpr Format16 kFormats[] = {{"f16", f16_value, 10, 5}, {"bf16", bf16_value, 7, 8}};

// Whether `bits` is `exact` rounded to nearest even, exact being a long double (64 bits of
// mantissa): no other value of the format is nearer, and of two the even one is taken.
bool is_nearest(const Format16& format, u16 bits, long double exact) {
  const double got = format.value(bits);
  if (std::isnan(exact)) {
    return std::isnan(got);
  }
  if (std::isnan(got) || std::signbit(got) != std::signbit(exact)) {
    return false;
  }
  const u16 magnitude = bits & 0x7FFF;
  const auto infinity = static_cast<u16>(0x7FFF >> format.mantissa_bits << format.mantissa_bits);
  // The next power of two stands in for infinity, as rounding takes it.
  const auto value = [&](u16 code) -> long double {
    return code == infinity ? std::ldexp(1.0L, 1 << (format.exponent_bits - 1))
                            : static_cast<long double>(format.value(code));
  };
  const long double target = std::fabs(exact);
  if (std::isinf(target)) {
    return magnitude == infinity;
  }
  const long double distance = std::fabs(value(magnitude) - target);
  if (magnitude == infinity && target >= value(infinity)) {
    return true;
  }
  for (const int step : {-1, 1}) {
    const int other = magnitude + step;
    if (other < 0 || other > infinity) {
      continue;
    }
    const long double theirs = std::fabs(value(static_cast<u16>(other)) - target);
    if (theirs < distance || (theirs == distance && (magnitude & 1) != 0)) {
      return false;
    }
  }
  return true;
}

std::vector<u16> half_operands(Random& random) {
  std::vector<u16> values(kOperands);
  for (u16& value : values) {
    // Any pattern, or of a magnitude near one so that sums overlap.
    const int any = random.integer(0, 65535);
    value = static_cast<u16>(random.integer(0, 1) == 0 ? any
                                                       : (any & 0x87FF) | (0x3800 + (any & 0x400)));
  }
  return values;
}

TEST_CASE("16-bit arithmetic is rounded once") {
  XC_RANDOM(random);
  for (const Format16& format : kFormats) {
    const std::string type = format.name;
    const std::vector<u16> a = half_operands(random);
    const std::vector<u16> b = half_operands(random);
    const std::vector<u16> c = half_operands(random);
    const auto check = [&](const std::string& text, const std::vector<u16>& d, auto exact) {
      INFO(text);
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < a.size(); ++i) {
        const long double x = format.value(a[i]);
        const long double y = format.value(b[i]);
        const long double z = format.value(c[i]);
        if (!is_nearest(format, d[i], exact(x, y, z)) && ++wrong == 1) {
          FAIL_CHECK("of " << a[i] << ", " << b[i] << ", " << c[i] << " gave " << d[i]);
        }
      }
      CHECK(wrong == 0);
    };
    const auto run = [&](const std::string& text, auto exact) {
      check(text, evaluate<u16>(text, a, b, c), exact);
    };
    run("add." + type + " d, a, b;", [](auto x, auto y, auto) { return x + y; });
    run("sub." + type + " d, a, b;", [](auto x, auto y, auto) { return x - y; });
    run("mul." + type + " d, a, b;", [](auto x, auto y, auto) { return x * y; });
  }
}

TEST_CASE("16-bit fused products are rounded once") {
  XC_RANDOM(random);
  for (const Format16& format : kFormats) {
    const std::string type = format.name;
    std::vector<u16> a = half_operands(random);
    std::vector<u16> b = half_operands(random);
    std::vector<u16> c = half_operands(random);
    const std::vector<u16> d = evaluate<u16>("fma.rn." + type + " d, a, b, c;", a, b, c);
    int checked = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const long double product = static_cast<long double>(format.value(a[i])) * format.value(b[i]);
      const long double sum = product + format.value(c[i]);
      // Only sums that a long double holds exactly: Knuth's error of the sum is zero.
      const long double from_c = sum - product;
      const bool exact = (product - (sum - from_c)) + (format.value(c[i]) - from_c) == 0;
      if (exact || !std::isfinite(sum)) {
        ++checked;
        if (!is_nearest(format, d[i], sum)) {
          FAIL_CHECK(type << " fma of " << a[i] << ", " << b[i] << ", " << c[i] << " gave "
                          << d[i]);
          break;
        }
      }
    }
    CHECK(checked > static_cast<int>(kOperands) / 4);
  }
}

TEST_CASE("both halves of a 16-bit pair are computed") {
  XC_RANDOM(random);
  for (const std::string type : {"f16", "bf16"}) {
    for (const auto& [text, pair] :
         {std::pair<std::string, std::string>("add." + type + " d, a, b;",
                                              "add." + type + "x2 d, a, b;"),
          {"mul." + type + " d, a, b;", "mul." + type + "x2 d, a, b;"},
          {"min." + type + " d, a, b;", "min." + type + "x2 d, a, b;"},
          {"max.NaN." + type + " d, a, b;", "max.NaN." + type + "x2 d, a, b;"},
          {"fma.rn.relu." + type + " d, a, b, a;", "fma.rn.relu." + type + "x2 d, a, b, a;"},
          {"neg." + type + " d, a;", "neg." + type + "x2 d, a;"},
          {"abs." + type + " d, a;", "abs." + type + "x2 d, a;"}}) {
      const std::vector<u16> a = half_operands(random);
      const std::vector<u16> b = half_operands(random);
      std::vector<u32> wide_a(kOperands);
      std::vector<u32> wide_b(kOperands);
      for (std::size_t i = 0; i < kOperands; ++i) {
        wide_a[i] = a[i] | static_cast<u32>(a[kOperands - 1 - i]) << 16;
        wide_b[i] = b[i] | static_cast<u32>(b[kOperands - 1 - i]) << 16;
      }
      const std::vector<u16> single = evaluate<u16>(text, a, b);
      const std::vector<u32> both = evaluate<u32>(pair, wide_a, wide_b);
      for (std::size_t i = 0; i < kOperands; ++i) {
        const u32 want = single[i] | static_cast<u32>(single[kOperands - 1 - i]) << 16;
        if (both[i] != want) {
          FAIL_CHECK(pair << " at " << i);
          break;
        }
      }
    }
  }
  SUCCEED();
}

TEST_CASE("16-bit minima, signs, relu and functions") {
  XC_RANDOM(random);
  for (const Format16& format : kFormats) {
    const std::string type = format.name;
    const auto value = [&](u16 bits) { return format.value(bits); };
    const auto same = [&](u16 got, double want) {
      return std::isnan(want)
                 ? std::isnan(value(got))
                 : value(got) == want && std::signbit(value(got)) == std::signbit(want);
    };
    const std::vector<u16> a = half_operands(random);
    const std::vector<u16> b = half_operands(random);
    const auto check = [&](const std::string& text, auto want) {
      const std::vector<u16> d = evaluate<u16>(text, a, b);
      for (std::size_t i = 0; i < a.size(); ++i) {
        if (!same(d[i], want(value(a[i]), value(b[i])))) {
          FAIL_CHECK(text << " of " << a[i] << ", " << b[i] << " gave " << d[i]);
          return;
        }
      }
      SUCCEED();
    };
    check("min." + type + " d, a, b;",
          [](double x, double y) { return expected_minimum(x, y, false); });
    check("max.NaN." + type + " d, a, b;",
          [](double x, double y) { return -expected_minimum(-x, -y, true); });
    check("neg." + type + " d, a;", [](double x, double) { return -x; });
    check("abs." + type + " d, a;", [](double x, double) { return std::fabs(x); });
    check("fma.rn.relu." + type + " d, a, " + (type == "f16" ? "0x3C00" : "0x3F80") + ", 0x8000;",
          [](double x, double) { return std::isnan(x) || x > 0.0 ? x : 0.0; });  // -0 becomes +0
    const std::vector<u16> powers =
        evaluate<u16>(type == "f16" ? "ex2.approx.f16 d, a;" : "ex2.approx.ftz.bf16 d, a;", a);
    for (std::size_t i = 0; i < a.size(); ++i) {
      const long double exact = std::exp2(static_cast<long double>(value(a[i])));
      // bf16's only form flushes: results and arguments below the least normal number.
      if (type == "f16" || exact >= std::ldexp(1.0L, -126) || std::isnan(exact)) {
        CHECK(is_nearest(format, powers[i], exact));
      } else {
        CHECK(powers[i] == 0);
      }
    }
    check("setp.lt." + type + " p, a, b;\nselp.b16 d, a, b, p;",
          [](double x, double y) { return x < y ? x : y; });
    check("setp.geu." + type + " p, a, b;\nselp.b16 d, a, b, p;",
          [](double x, double y) { return !(x < y) ? x : y; });
  }
}

TEST_CASE("comparisons of 16-bit pairs") {
  XC_RANDOM(random);
  const auto half = [](u32 word, int i) { return f16_value(static_cast<u16>(word >> (16 * i))); };
  check_binary<u32, u32, u32>(random, "set.lt.f16x2.f16x2 d, a, b;", [&](u32 a, u32 b) {
    return (half(a, 0) < half(b, 0) ? 0x3C00U : 0U) | (half(a, 1) < half(b, 1) ? 0x3C000000U : 0U);
  });
  check_binary<u32, u32, u32>(random, "set.geu.u32.f16x2 d, a, b;", [&](u32 a, u32 b) {
    return (half(a, 0) < half(b, 0) ? 0U : 0xFFFFU) | (half(a, 1) < half(b, 1) ? 0U : 0xFFFF0000U);
  });
  check_binary<u32, u32, u32>(random,
                              "setp.gt.f16x2 p|q, a, b;\nselp.b32 x, 1, 0, p;\n"
                              "selp.b32 y, 2, 0, q;\nor.b32 d, x, y;",
                              [&](u32 a, u32 b) {
                                return (half(a, 0) > half(b, 0) ? 1U : 0U) |
                                       (half(a, 1) > half(b, 1) ? 2U : 0U);
                              });
}

}  // namespace
}  // namespace xception::emulator
