// Integer and bit instructions against C++. What is expected is written from the semantics in the
// PTX ISA, mostly bit by bit or in 128 bits, and not as the interpreter does it.
#include <bit>

#include "tests/emulator/ptx_fixture.h"

namespace xception::emulator {
namespace {

__extension__ typedef __int128 i128;

template <class T>
std::string type_name() {
  return (std::is_signed_v<T> ? "s" : "u") + std::to_string(8 * sizeof(T));
}

template <class T>
void check_arithmetic(Random& random) {
  const std::string type = type_name<T>();
  constexpr int kBits = 8 * sizeof(T);
  const auto wrap = [](i128 value) { return static_cast<T>(value); };
  check_binary<T, T, T>(random, "add." + type + " d, a, b;",
                        [&](T a, T b) { return wrap(i128{a} + b); });
  check_binary<T, T, T>(random, "sub." + type + " d, a, b;",
                        [&](T a, T b) { return wrap(i128{a} - b); });
  check_binary<T, T, T>(random, "mul.lo." + type + " d, a, b;", [&](T a, T b) {
    return static_cast<T>(static_cast<u64>(a) * static_cast<u64>(b));
  });
  check_binary<T, T, T>(random, "mul.hi." + type + " d, a, b;", [&](T a, T b) {
    __extension__ typedef unsigned __int128 u128;
    return std::is_signed_v<T> ? wrap((i128{a} * i128{b}) >> kBits)
                               : static_cast<T>((static_cast<u128>(a) * b) >> kBits);
  });
  check_ternary<T, T, T, T>(random, "mad.lo." + type + " d, a, b, c;", [&](T a, T b, T c) {
    return static_cast<T>(static_cast<u64>(a) * static_cast<u64>(b) + static_cast<u64>(c));
  });
  check_binary<T, T, T>(random, "min." + type + " d, a, b;",
                        [](T a, T b) { return a < b ? a : b; });
  check_binary<T, T, T>(random, "max." + type + " d, a, b;",
                        [](T a, T b) { return a > b ? a : b; });
  check_binary<T, T, T>(random, "div." + type + " d, a, b;", [&](T a, T b) {
    return b == 0 ? static_cast<T>(-1) : wrap(i128{a} / i128{b});
  });
  check_binary<T, T, T>(random, "rem." + type + " d, a, b;",
                        [&](T a, T b) { return b == 0 ? a : wrap(i128{a} % i128{b}); });
  check_ternary<T, T, T, T>(random, "sad." + type + " d, a, b, c;", [&](T a, T b, T c) {
    return wrap(i128{c} + (a < b ? i128{b} - a : i128{a} - b));
  });
  if constexpr (std::is_signed_v<T>) {
    check_unary<T, T>(random, "neg." + type + " d, a;", [&](T a) { return wrap(-i128{a}); });
    check_unary<T, T>(random, "abs." + type + " d, a;",
                      [&](T a) { return wrap(a < 0 ? -i128{a} : i128{a}); });
  }
}

TEST_CASE("integer arithmetic wraps") {
  XC_RANDOM(random);
  check_arithmetic<u16>(random);
  check_arithmetic<i16>(random);
  check_arithmetic<u32>(random);
  check_arithmetic<i32>(random);
  check_arithmetic<u64>(random);
  check_arithmetic<i64>(random);
}

TEST_CASE("wide and 24-bit products") {
  XC_RANDOM(random);
  check_binary<u16, u16, u32>(random, "mul.wide.u16 d, a, b;",
                              [](u16 a, u16 b) { return u32{a} * b; });
  check_binary<i16, i16, i32>(random, "mul.wide.s16 d, a, b;",
                              [](i16 a, i16 b) { return i32{a} * b; });
  check_binary<u32, u32, u64>(random, "mul.wide.u32 d, a, b;",
                              [](u32 a, u32 b) { return u64{a} * b; });
  check_binary<i32, i32, i64>(random, "mul.wide.s32 d, a, b;",
                              [](i32 a, i32 b) { return i64{a} * b; });
  check_ternary<i32, i32, i64, i64>(random, "mad.wide.s32 d, a, b, c;", [](i32 a, i32 b, i64 c) {
    return static_cast<i64>(static_cast<u64>(i64{a} * b) + static_cast<u64>(c));
  });
  check_ternary<u32, u32, u64, u64>(random, "mad.wide.u32 d, a, b, c;",
                                    [](u32 a, u32 b, u64 c) { return u64{a} * b + c; });
  check_ternary<i32, i32, i32, i32>(random, "mad.hi.s32 d, a, b, c;", [](i32 a, i32 b, i32 c) {
    return static_cast<i32>(static_cast<u32>((i64{a} * b) >> 32) + static_cast<u32>(c));
  });
  check_ternary<i32, i32, i32, i32>(random, "mad.hi.sat.s32 d, a, b, c;", [](i32 a, i32 b, i32 c) {
    const i64 sum = ((i64{a} * b) >> 32) + c;
    return static_cast<i32>(std::clamp<i64>(sum, INT32_MIN, INT32_MAX));
  });
  const auto low24 = [](i32 a) {
    return static_cast<i64>(static_cast<i32>(static_cast<u32>(a) << 8) >> 8);
  };
  check_binary<i32, i32, i32>(random, "mul24.lo.s32 d, a, b;",
                              [&](i32 a, i32 b) { return static_cast<i32>(low24(a) * low24(b)); });
  check_binary<i32, i32, i32>(random, "mul24.hi.s32 d, a, b;", [&](i32 a, i32 b) {
    return static_cast<i32>((low24(a) * low24(b)) >> 16);
  });
  check_ternary<u32, u32, u32, u32>(random, "mad24.lo.u32 d, a, b, c;", [](u32 a, u32 b, u32 c) {
    return static_cast<u32>(u64{a & 0xFFFFFF} * (b & 0xFFFFFF)) + c;
  });
}

TEST_CASE("saturated sums") {
  XC_RANDOM(random);
  check_binary<i32, i32, i32>(random, "add.sat.s32 d, a, b;", [](i32 a, i32 b) {
    return static_cast<i32>(std::clamp<i64>(i64{a} + b, INT32_MIN, INT32_MAX));
  });
  check_binary<i32, i32, i32>(random, "sub.sat.s32 d, a, b;", [](i32 a, i32 b) {
    return static_cast<i32>(std::clamp<i64>(i64{a} - b, INT32_MIN, INT32_MAX));
  });
}

TEST_CASE("chains of carries") {
  XC_RANDOM(random);
  // 64-bit sums out of 32-bit ones.
  const auto in_halves = [](const std::string& low, const std::string& high) {
    return "{ .reg .b32 al, ah, bl, bh;\nmov.b64 {al, ah}, a;\nmov.b64 {bl, bh}, b;\n" + low +
           " x, al, bl;\n" + high + " y, ah, bh;\nmov.b64 d, {x, y};\n}";
  };
  check_binary<u64, u64, u64>(random, in_halves("add.cc.u32", "addc.u32"),
                              [](u64 a, u64 b) { return a + b; });
  check_binary<u64, u64, u64>(random, in_halves("sub.cc.u32", "subc.u32"),
                              [](u64 a, u64 b) { return a - b; });
  // The low 64 bits of a product, as compilers write them.
  check_binary<u64, u64, u64>(
      random,
      "{ .reg .b32 al, ah, bl, bh;\nmov.b64 {al, ah}, a;\nmov.b64 {bl, bh}, b;\n"
      "mul.lo.u32 x, al, bl;\nmul.hi.u32 y, al, bl;\nmad.lo.u32 y, al, bh, y;\n"
      "mad.lo.u32 y, ah, bl, y;\nmov.b64 d, {x, y};\n}",
      [](u64 a, u64 b) { return a * b; });
  // mad.cc and madc.hi: 96 bits of a (64) times b (32), of which the upper 64 are kept.
  check_binary<u64, u32, u64>(
      random,
      "{ .reg .b32 al, ah;\nmov.b64 {al, ah}, a;\nmul.hi.u32 x, al, b;\n"
      "mad.lo.cc.u32 x, ah, b, x;\nmadc.hi.u32 y, ah, b, 0;\nmov.b64 d, {x, y};\n}",
      [](u64 a, u32 b) {
        __extension__ typedef unsigned __int128 u128;
        return static_cast<u64>((static_cast<u128>(a) * b) >> 32);
      });
  // The flag itself, through a sum of nothing.
  check_binary<u32, u32, u32>(random, "add.cc.u32 x, a, b;\naddc.u32 d, 0, 0;",
                              [](u32 a, u32 b) { return (u64{a} + b) >> 32 != 0 ? 1U : 0U; });
  check_binary<u32, u32, u32>(random, "sub.cc.u32 x, a, b;\nsubc.u32 d, 0, 0;",
                              [](u32 a, u32 b) { return a < b ? ~0U : 0U; });
}

TEST_CASE("a flag that comes in goes on") {
  XC_RANDOM(random);
  // With a carry or a borrow of one in, and equal words among the operands.
  const auto check = [&](const std::string& text, auto expected) {
    check_binary<u32, u32, u32>(random, text, expected);
    check_unary<u32, u32>(random, "{ .reg .b32 b;\nmov.b32 b, a;\n" + text + "\n}",
                          [&](u32 a) { return expected(a, a); });
    check_unary<u32, u32>(random, "{ .reg .b32 b;\nnot.b32 b, a;\n" + text + "\n}",
                          [&](u32 a) { return expected(a, ~a); });
  };
  check("add.cc.u32 x, -1, 1;\naddc.cc.u32 y, a, b;\naddc.u32 d, 0, 0;",
        [](u32 a, u32 b) { return static_cast<u32>((u64{a} + b + 1) >> 32); });
  check("sub.cc.u32 x, 0, 1;\nsubc.cc.u32 y, a, b;\nsubc.u32 d, 0, 0;",
        [](u32 a, u32 b) { return u64{a} < u64{b} + 1 ? ~0U : 0U; });
}

TEST_CASE("logic and shifts") {
  XC_RANDOM(random);
  check_binary<u32, u32, u32>(random, "and.b32 d, a, b;", [](u32 a, u32 b) { return a & b; });
  check_binary<u64, u64, u64>(random, "or.b64 d, a, b;", [](u64 a, u64 b) { return a | b; });
  check_binary<u16, u16, u16>(random, "xor.b16 d, a, b;",
                              [](u16 a, u16 b) { return static_cast<u16>(a ^ b); });
  check_unary<u32, u32>(random, "not.b32 d, a;", [](u32 a) { return ~a; });
  check_unary<u32, u32>(random, "cnot.b32 d, a;", [](u32 a) { return a == 0 ? 1U : 0U; });
  // Amounts of the width and above clamp.
  check_binary<u32, u32, u32>(random, "shl.b32 d, a, b;",
                              [](u32 a, u32 b) { return b > 31 ? 0 : a << b; });
  check_binary<u64, u32, u64>(random, "shl.b64 d, a, b;",
                              [](u64 a, u32 b) { return b > 63 ? 0 : a << b; });
  check_binary<u16, u32, u16>(random, "shl.b16 d, a, b;",
                              [](u16 a, u32 b) { return static_cast<u16>(b > 15 ? 0 : a << b); });
  check_binary<u32, u32, u32>(random, "shr.u32 d, a, b;",
                              [](u32 a, u32 b) { return b > 31 ? 0 : a >> b; });
  check_binary<i32, u32, i32>(random, "shr.s32 d, a, b;",
                              [](i32 a, u32 b) { return a >> (b > 31 ? 31 : b); });
  check_binary<i64, u32, i64>(random, "shr.s64 d, a, b;",
                              [](i64 a, u32 b) { return a >> (b > 63 ? 63 : b); });
  check_binary<i16, u32, i16>(random, "shr.s16 d, a, b;", [](i16 a, u32 b) {
    return static_cast<i16>(a >> (b > 15 ? 15 : b));
  });
  const auto funnel = [](bool left, u32 a, u32 b, u32 n) {
    if (n == 0) {
      return left ? b : a;
    }
    if (n == 32) {
      return left ? a : b;
    }
    return left ? b << n | a >> (32 - n) : a >> n | b << (32 - n);
  };
  check_ternary<u32, u32, u32, u32>(random, "shf.l.wrap.b32 d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    return funnel(true, a, b, c & 31);
  });
  check_ternary<u32, u32, u32, u32>(random, "shf.r.wrap.b32 d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    return funnel(false, a, b, c & 31);
  });
  check_ternary<u32, u32, u32, u32>(
      random, "shf.l.clamp.b32 d, a, b, c;",
      [&](u32 a, u32 b, u32 c) { return funnel(true, a, b, std::min(c, 32U)); });
  check_ternary<u32, u32, u32, u32>(
      random, "shf.r.clamp.b32 d, a, b, c;",
      [&](u32 a, u32 b, u32 c) { return funnel(false, a, b, std::min(c, 32U)); });
  for (int table = 0; table < 256; table += random.integer(1, 9)) {
    check_ternary<u32, u32, u32, u32>(
        random, "lop3.b32 d, a, b, c, " + std::to_string(table) + ";", [&](u32 a, u32 b, u32 c) {
          u32 result = 0;
          for (int i = 0; i < 32; ++i) {
            const u32 row = (a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1);
            result |= static_cast<u32>(table >> row & 1) << i;
          }
          return result;
        });
  }
}

TEST_CASE("predicates combine") {
  XC_RANDOM(random);
  const auto check = [&](const std::string& op, auto expected) {
    check_binary<u32, u32, u32>(random,
                                "setp.gt.u32 p, a, 100;\nsetp.gt.u32 q, b, 100;\n" + op +
                                    ".pred p, p, q;\nselp.b32 d, 1, 0, p;",
                                [&](u32 a, u32 b) { return expected(a > 100, b > 100) ? 1U : 0U; });
  };
  check("and", [](bool a, bool b) { return a && b; });
  check("or", [](bool a, bool b) { return a || b; });
  check("xor", [](bool a, bool b) { return a != b; });
  check_unary<u32, u32>(random, "setp.gt.u32 p, a, 100;\nnot.pred q, p;\nselp.b32 d, 7, 9, !q;",
                        [](u32 a) { return a > 100 ? 7U : 9U; });
}

TEST_CASE("bit counts and fields") {
  XC_RANDOM(random);
  check_unary<u32, u32>(random, "popc.b32 d, a;", [](u32 a) {
    u32 count = 0;
    for (int i = 0; i < 32; ++i) {
      count += a >> i & 1;
    }
    return count;
  });
  check_unary<u64, u32>(random, "popc.b64 d, a;",
                        [](u64 a) { return static_cast<u32>(std::popcount(a)); });
  check_unary<u32, u32>(random, "clz.b32 d, a;",
                        [](u32 a) { return static_cast<u32>(std::countl_zero(a)); });
  check_unary<u64, u32>(random, "clz.b64 d, a;",
                        [](u64 a) { return static_cast<u32>(std::countl_zero(a)); });
  const auto find = [](u64 value, int width) {
    for (int i = width - 1; i >= 0; --i) {
      if ((value >> i & 1) != 0) {
        return static_cast<u32>(i);
      }
    }
    return ~0U;
  };
  check_unary<u32, u32>(random, "bfind.u32 d, a;", [&](u32 a) { return find(a, 32); });
  check_unary<i32, u32>(random, "bfind.s32 d, a;",
                        [&](i32 a) { return find(static_cast<u32>(a < 0 ? ~a : a), 32); });
  check_unary<u64, u32>(random, "bfind.u64 d, a;", [&](u64 a) { return find(a, 64); });
  check_unary<u32, u32>(random, "bfind.shiftamt.u32 d, a;",
                        [&](u32 a) { return a == 0 ? ~0U : 31 - find(a, 32); });
  check_unary<u32, u32>(random, "brev.b32 d, a;", [](u32 a) {
    u32 result = 0;
    for (int i = 0; i < 32; ++i) {
      result |= (a >> i & 1) << (31 - i);
    }
    return result;
  });
  const auto extract = [](u64 a, u32 b, u32 c, u32 msb, bool sign) {
    const u32 position = b & 0xFF;
    const u32 length = c & 0xFF;
    const u64 fill = !sign || length == 0 ? 0 : a >> std::min(position + length - 1, msb) & 1;
    u64 result = 0;
    for (u32 i = 0; i <= msb; ++i) {
      result |= (i < length && position + i <= msb ? a >> (position + i) & 1 : fill) << i;
    }
    return result;
  };
  check_ternary<u32, u32, u32, u32>(random, "bfe.u32 d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    return static_cast<u32>(extract(a, b, c, 31, false));
  });
  check_ternary<u32, u32, u32, u32>(random, "bfe.s32 d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    return static_cast<u32>(extract(a, b, c, 31, true));
  });
  check_ternary<u64, u32, u32, u64>(random, "bfe.u64 d, a, b, c;", [&](u64 a, u32 b, u32 c) {
    return extract(a, b, c, 63, false);
  });
  check_ternary<u64, u32, u32, u64>(random, "bfe.s64 d, a, b, c;", [&](u64 a, u32 b, u32 c) {
    return extract(a, b, c, 63, true);
  });
  for (const int position : {0, 5, 31, 32, 200}) {
    check_ternary<u32, u32, u32, u32>(
        random, "bfi.b32 d, a, b, " + std::to_string(position) + ", c;", [&](u32 a, u32 b, u32 c) {
          u32 result = b;
          const auto start = static_cast<u32>(position);
          for (u32 i = 0; i < (c & 0xFF) && start + i <= 31; ++i) {
            result = (result & ~(1U << (start + i))) | (a >> i & 1) << (start + i);
          }
          return result;
        });
  }
  check_ternary<u64, u64, u32, u64>(random, "bfi.b64 d, a, b, 40, c;", [&](u64 a, u64 b, u32 c) {
    u64 result = b;
    for (u32 i = 0; i < (c & 0xFF) && 40 + i <= 63; ++i) {
      result = (result & ~(u64{1} << (40 + i))) | (a >> i & 1) << (40 + i);
    }
    return result;
  });
  check_binary<u32, u32, u32>(random, "bmsk.clamp.b32 d, a, b;", [](u32 a, u32 b) {
    u32 result = 0;
    for (u64 i = a; i < u64{a} + b && i < 32; ++i) {
      result |= 1U << i;
    }
    return result;
  });
}

TEST_CASE("bytes are permuted") {
  XC_RANDOM(random);
  const auto byte = [](u32 a, u32 b, u32 index) {
    return index < 4 ? a >> (8 * index) & 0xFF : b >> (8 * (index - 4)) & 0xFF;
  };
  check_ternary<u32, u32, u32, u32>(random, "prmt.b32 d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    u32 result = 0;
    for (u32 i = 0; i < 4; ++i) {
      const u32 selector = c >> (4 * i) & 0xF;
      const u32 value = byte(a, b, selector & 7);
      result |= ((selector & 8) != 0 ? ((value & 0x80) != 0 ? 0xFF : 0) : value) << (8 * i);
    }
    return result;
  });
  const auto pick = [&](u32 a, u32 b, u32 i0, u32 i1, u32 i2, u32 i3) {
    return byte(a, b, i0) | byte(a, b, i1) << 8 | byte(a, b, i2) << 16 | byte(a, b, i3) << 24;
  };
  check_ternary<u32, u32, u32, u32>(random, "prmt.b32.f4e d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    const u32 n = c & 3;
    return pick(a, b, n, n + 1, n + 2, n + 3);
  });
  check_ternary<u32, u32, u32, u32>(random, "prmt.b32.b4e d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    const u32 n = c & 3;
    return pick(a, b, n, (n + 7) % 8, (n + 6) % 8, (n + 5) % 8);
  });
  check_ternary<u32, u32, u32, u32>(random, "prmt.b32.rc8 d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    const u32 n = c & 3;
    return pick(a, b, n, n, n, n);
  });
  check_ternary<u32, u32, u32, u32>(random, "prmt.b32.ecl d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    const u32 n = c & 3;
    return pick(a, b, std::max(0U, n), std::max(1U, n), std::max(2U, n), std::max(3U, n));
  });
  check_ternary<u32, u32, u32, u32>(random, "prmt.b32.ecr d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    const u32 n = c & 3;
    return pick(a, b, std::min(0U, n), std::min(1U, n), std::min(2U, n), std::min(3U, n));
  });
  check_ternary<u32, u32, u32, u32>(random, "prmt.b32.rc16 d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    const u32 n = (c & 1) * 2;
    return pick(a, b, n, n + 1, n, n + 1);
  });
}

TEST_CASE("dot products of bytes") {
  XC_RANDOM(random);
  const auto unsigned_byte = [](u32 a, int i) { return static_cast<i64>(a >> (8 * i) & 0xFF); };
  const auto signed_byte = [](u32 a, int i) {
    return static_cast<i64>(static_cast<std::int8_t>(a >> (8 * i)));
  };
  const auto dot = [](u32 a, u32 b, u32 c, auto left, auto right) {
    i64 sum = c;
    for (int i = 0; i < 4; ++i) {
      sum += left(a, i) * right(b, i);
    }
    return static_cast<u32>(sum);
  };
  check_ternary<u32, u32, u32, u32>(random, "dp4a.u32.u32 d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    return dot(a, b, c, unsigned_byte, unsigned_byte);
  });
  check_ternary<u32, u32, u32, u32>(random, "dp4a.s32.s32 d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    return dot(a, b, c, signed_byte, signed_byte);
  });
  check_ternary<u32, u32, u32, u32>(random, "dp4a.s32.u32 d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    return dot(a, b, c, signed_byte, unsigned_byte);
  });
  check_ternary<u32, u32, u32, u32>(random, "dp4a.u32.s32 d, a, b, c;", [&](u32 a, u32 b, u32 c) {
    return dot(a, b, c, unsigned_byte, signed_byte);
  });
  check_ternary<u32, u32, u32, u32>(
      random, "dp2a.hi.s32.s32 d, a, b, c;", [&](u32 a, u32 b, u32 c) {
        const i64 sum = i64{c} + static_cast<i16>(a) * signed_byte(b, 2) +
                        static_cast<i16>(a >> 16) * signed_byte(b, 3);
        return static_cast<u32>(sum);
      });
  check_ternary<u32, u32, u32, u32>(
      random, "dp2a.lo.u32.u32 d, a, b, c;", [&](u32 a, u32 b, u32 c) {
        const i64 sum = i64{c} + static_cast<u16>(a) * unsigned_byte(b, 0) +
                        static_cast<u16>(a >> 16) * unsigned_byte(b, 1);
        return static_cast<u32>(sum);
      });
}

TEST_CASE("a minimum that is not negative") {
  XC_RANDOM(random);
  check_binary<std::int32_t, std::int32_t, std::int32_t>(
      random, "min.relu.s32 d, a, b;",
      [](std::int32_t a, std::int32_t b) { return std::max(std::min(a, b), 0); });
}

TEST_CASE("halves of a word") {
  XC_RANDOM(random);
  const auto halves = [](u32 a, u32 b, auto operation) {
    return static_cast<u32>(static_cast<u16>(operation(static_cast<i16>(a), static_cast<i16>(b)))) |
           static_cast<u32>(
               static_cast<u16>(operation(static_cast<i16>(a >> 16), static_cast<i16>(b >> 16))))
               << 16;
  };
  check_binary<u32, u32, u32>(random, "min.s16x2 d, a, b;", [&](u32 a, u32 b) {
    return halves(a, b, [](i16 x, i16 y) { return std::min(x, y); });
  });
  check_binary<u32, u32, u32>(random, "add.u16x2 d, a, b;", [&](u32 a, u32 b) {
    return halves(a, b, [](i16 x, i16 y) { return x + y; });
  });
}

template <class T>
void check_comparisons(Random& random) {
  const std::string type = type_name<T>();
  const auto check = [&](const std::string& name, auto holds) {
    check_binary<T, T, u32>(
        random, "setp." + name + "." + type + " p, a, b;\n@p mov.b32 d, 1;\n@!p mov.b32 d, 2;",
        [&](T a, T b) { return holds(a, b) ? 1U : 2U; });
  };
  check("eq", [](T a, T b) { return a == b; });
  check("ne", [](T a, T b) { return a != b; });
  check("lt", [](T a, T b) { return a < b; });
  check("le", [](T a, T b) { return a <= b; });
  check("gt", [](T a, T b) { return a > b; });
  check("ge", [](T a, T b) { return a >= b; });
}

TEST_CASE("integers compare") {
  XC_RANDOM(random);
  check_comparisons<u16>(random);
  check_comparisons<i16>(random);
  check_comparisons<u32>(random);
  check_comparisons<i32>(random);
  check_comparisons<u64>(random);
  check_comparisons<i64>(random);
  check_binary<u32, u32, u32>(random,
                              "setp.gt.u32 q, a, 100;\nsetp.lt.and.u32 p|q, a, b, q;\n"
                              "selp.b32 x, 1, 0, p;\nselp.b32 y, 2, 0, q;\nor.b32 d, x, y;",
                              [](u32 a, u32 b) {
                                const bool also = a > 100;
                                return (a < b && also ? 1U : 0U) | (!(a < b) && also ? 2U : 0U);
                              });
  check_binary<u32, u32, u32>(random, "setp.gt.u32 q, a, 100;\nset.lt.xor.u32.u32 d, a, b, !q;",
                              [](u32 a, u32 b) { return (a < b) != (a <= 100) ? ~0U : 0U; });
  check_ternary<u32, u32, i32, u32>(random, "slct.b32.s32 d, a, b, c;",
                                    [](u32 a, u32 b, i32 c) { return c >= 0 ? a : b; });
}

}  // namespace
}  // namespace xception::emulator
