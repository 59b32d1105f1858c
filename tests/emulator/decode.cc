#include "tests/emulator/decode.h"

#include <array>

#include "tests/emulator/execute.h"

namespace xception::emulator {

void decode(Statement* statement) {
  constexpr std::array kFamilies = {
      decode_move,     decode_carry,  decode_integer, decode_product, decode_bits,    decode_float,
      decode_half,     decode_memory, decode_compare, decode_control, decode_convert, decode_atomic,
      decode_mbarrier, decode_bulk,   decode_async,   decode_warp,    decode_matrix,  decode_wgmma,
  };
  Handler handler = nullptr;
  for (const auto family : kFamilies) {
    handler = family(statement);
    if (handler != nullptr || statement->failed()) {
      break;
    }
  }
  statement->in.handler = handler != nullptr && statement->done() ? handler : execute_unsupported;
  if (statement->in.handler == execute_unsupported) {
    statement->in.collective = Collective::kNone;
    statement->in.kind = InstructionClass::kControl;
    statement->clear_slots();
  }
}

}  // namespace xception::emulator
