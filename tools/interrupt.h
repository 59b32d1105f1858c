// Ctrl-C and SIGTERM as a flag, so that what is done is written before the program ends.
#pragma once

namespace xception::cli {

// From now on SIGINT and SIGTERM set the flag; a second one ends the program at once. SIGPIPE and
// SIGXFSZ are ignored: a closed pipe and a full quota are seen where it is written.
void catch_interrupts();

// The signal that came (SIGINT or SIGTERM), or 0.
int interrupted();

// Keeps these signals from the calling thread: they are the main thread's.
void block_interrupts();

}  // namespace xception::cli
