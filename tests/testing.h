// Catch2 2.13 and 3.x under one include.
#pragma once

#ifdef XC_CATCH2_V2
#include <catch2/catch.hpp>
#else
#include <catch2/catch_all.hpp>
using namespace Catch::Matchers;  // NOLINT(google-build-using-namespace)
using Catch::Approx;
#endif
