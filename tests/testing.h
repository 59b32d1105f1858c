// Catch2 2.13 and 3.x under one include.
#pragma once

#ifdef XC_CATCH2_V2
#include <catch2/catch.hpp>
#else
#include <catch2/catch_all.hpp>
using Catch::Approx;
#endif

#include <string>

// Matches a text that has `part` in it.
inline auto containing(const std::string& part) {
#ifdef XC_CATCH2_V2
  return Catch::Contains(part);
#else
  return Catch::Matchers::ContainsSubstring(part);
#endif
}
