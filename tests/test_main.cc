#define CATCH_CONFIG_MAIN
#include "testing.h"

#ifndef XC_CATCH2_V2
int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
#endif
