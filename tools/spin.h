// How long OpenMP's threads wait actively for each other.
#pragma once

namespace xception {

// libgomp lets a waiting thread spin for milliseconds. Where anything else runs on the cores, the
// decoding threads of this very program say, a spinning thread takes the time that the thread it
// waits for would need. This sets a short spin: long enough for the next layer of a network, too
// short to hurt. libgomp reads its settings before main(), so the program starts itself once more
// with GOMP_SPINCOUNT set; it returns, having done nothing, where the user has set that or another
// of OpenMP's ways of waiting or binding threads.
void shorten_openmp_spin(char** argv);

}  // namespace xception
