// check_instructions LIBRARY OWN LIST...: whether every instruction of the PTX in LIBRARY, as it is
// spelled, is in one of the lists that tests have written (XC_EMULATOR_INSTRUCTIONS). Writes to OWN
// those of the library.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "tests/emulator/fatbin.h"
#include "tests/emulator/launch.h"

namespace xception::emulator {
namespace {

std::vector<char> contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void add_lines(const std::string& path, std::set<std::string>* lines) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    lines->insert(line);
  }
}

// Decodes the PTX of every fat binary of a library; false, with a message, where one cannot be
// read.
bool decode_all(const std::vector<char>& library) {
  constexpr std::uint32_t kFatbinMagic = 0xBA55ED50;
  constexpr std::size_t kAlignment = 2;  // of the members of an archive
  const std::span<const std::byte> image = std::as_bytes(std::span(library));
  for (std::size_t at = 0; at + sizeof(kFatbinMagic) <= image.size(); at += kAlignment) {
    std::uint32_t magic = 0;
    std::memcpy(&magic, &image[at], sizeof(magic));
    if (magic != kFatbinMagic) {
      continue;
    }
    const Result<std::vector<FatbinEntry>> entries = parse_fatbin(image.subspan(at));
    if (!entries.ok()) {
      std::fprintf(stderr, "%s\n", entries.status().message().c_str());
      return false;
    }
    for (const FatbinEntry& entry : *entries) {
      if (entry.kind != FatbinEntry::Kind::kPtx) {
        continue;
      }
      const Result<std::string> text = ptx_text(entry);
      if (!text.ok() || parse_ptx(*text).fault) {
        std::fprintf(stderr, "the PTX at byte %zu cannot be read\n", at);
        return false;
      }
    }
    std::uint64_t bytes = 0;  // of its entries, in which any number may stand
    std::memcpy(&bytes, &image[at + 8], sizeof(bytes));
    at += bytes / kAlignment * kAlignment;
  }
  return true;
}

int check(const std::vector<std::string>& arguments) {
  if (arguments.size() < 3) {
    std::fprintf(stderr, "usage: check_instructions LIBRARY OWN LIST...\n");
    return 2;
  }
  setenv("XC_EMULATOR_INSTRUCTIONS", arguments[1].c_str(), 1);
  if (!decode_all(contents(arguments[0]))) {
    return 1;
  }
  std::set<std::string> own;
  add_lines(arguments[1], &own);
  std::set<std::string> tested;
  for (const std::string& list : std::span(arguments).subspan(2)) {
    add_lines(list, &tested);
  }
  std::vector<std::string> missing;
  std::ranges::set_difference(own, tested, std::back_inserter(missing));
  for (const std::string& instruction : missing) {
    std::fprintf(stderr, "no test of the emulator has %s\n", instruction.c_str());
  }
  std::printf("%zu instructions, %zu of them not tested\n", own.size(), missing.size());
  return own.empty() || !missing.empty() ? 1 : 0;
}

}  // namespace
}  // namespace xception::emulator

int main(int argc, char** argv) { return xception::emulator::check({argv + 1, argv + argc}); }
