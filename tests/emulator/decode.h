// From an instruction as written to its handler.
#pragma once

#include "tests/emulator/ptx_statement.h"

namespace xception::emulator {

// Sets the handler and slots of `statement->in`. What is not understood in full gets a handler
// that is a fault naming the instruction.
void decode(Statement* statement);

// The least architecture of a module's target that has the instruction, by the ISA's notes; 0 where
// every device of the emulator has it. Of what the emulator knows, and to be asked before modifiers
// are taken.
int least_target(const Statement& statement);

// One a family of instructions: the handler, or null where the opcode is not of the family. A
// modifier or operand that nobody has asked for makes the instruction unsupported all the same.
Handler decode_control(Statement* statement);
Handler decode_integer(Statement* statement);
Handler decode_product(Statement* statement);
Handler decode_carry(Statement* statement);
Handler decode_bits(Statement* statement);
Handler decode_float(Statement* statement);
Handler decode_half(Statement* statement);
Handler decode_compare(Statement* statement);
Handler decode_convert(Statement* statement);
Handler decode_move(Statement* statement);
Handler decode_memory(Statement* statement);
Handler decode_atomic(Statement* statement);
Handler decode_mbarrier(Statement* statement);
Handler decode_bulk(Statement* statement);
Handler decode_async(Statement* statement);
Handler decode_warp(Statement* statement);
Handler decode_matrix(Statement* statement);
Handler decode_wgmma(Statement* statement);

}  // namespace xception::emulator
