// Ctrl-C, SIGTERM and SIGHUP as a flag, so that what is done is written before the program ends.
#pragma once

namespace xception::cli {

// From now on SIGINT, SIGTERM and SIGHUP set the flag, unless they were ignored before; a second
// one, be it another, ends the program at once. Only for work that looks at the flag and waits in
// no system call: elsewhere the signals' default is the right answer, since nothing is half done.
void catch_interrupts();

// SIGPIPE and SIGXFSZ: a closed pipe and a full quota are seen where it is written.
void ignore_write_signals();

// The signal that came, or 0.
int interrupted();

// Keeps these signals from the calling thread: they are the main thread's.
void block_interrupts();

}  // namespace xception::cli
