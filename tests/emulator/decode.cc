#include "tests/emulator/decode.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "tests/emulator/execute.h"

namespace xception::emulator {
namespace {

// The file that XC_EMULATOR_INSTRUCTIONS names, with a line for each instruction that this process
// has decoded, as it is spelled, but each once.
class Spellings {
 public:
  explicit Spellings(const char* path) : file_(std::fopen(path, "w"), std::fclose) {
    if (file_ != nullptr) {
      std::setvbuf(file_.get(), nullptr, _IOLBF, BUFSIZ);
    }
  }

  void add(const Statement& statement) {
    std::string spelling(statement.opcode);
    for (const std::string_view modifier : statement.modifiers) {
      spelling.append(".").append(modifier);
    }
    const std::lock_guard lock(mutex_);
    if (file_ != nullptr && known_.insert(spelling).second) {
      std::fprintf(file_.get(), "%s\n", spelling.c_str());
    }
  }

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  std::mutex mutex_;
  std::set<std::string> known_;
};

void note_spelling(const Statement& statement) {
  static const char* const path = std::getenv("XC_EMULATOR_INSTRUCTIONS");
  if (path != nullptr) {
    static Spellings spellings(path);
    spellings.add(statement);
  }
}

}  // namespace

void decode(Statement* statement) {
  note_spelling(*statement);
  constexpr std::array kFamilies = {
      decode_move,     decode_carry,  decode_integer, decode_product, decode_bits,    decode_float,
      decode_half,     decode_memory, decode_compare, decode_control, decode_convert, decode_atomic,
      decode_mbarrier, decode_bulk,   decode_async,   decode_warp,    decode_matrix,  decode_wgmma,
  };
  const int least = least_target(*statement);
  Handler handler = nullptr;
  for (const auto family : kFamilies) {
    handler = family(statement);
    if (handler != nullptr || statement->failed()) {
      break;
    }
  }
  statement->in.handler = handler != nullptr && statement->done() ? handler : execute_unsupported;
  if (least > statement->builder().program().target) {
    // What ptxas would not translate.
    statement->in.handler = execute_newer;
    statement->in.immediate = least;
  }
  if (statement->in.handler == execute_unsupported || statement->in.handler == execute_newer) {
    statement->in.collective = Collective::kNone;
    statement->in.kind = InstructionClass::kControl;
    statement->clear_slots();
  }
}

}  // namespace xception::emulator
