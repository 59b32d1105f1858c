// How many threads the host's processor is good for.
#pragma once

#include <optional>
#include <string_view>

namespace xception {

// Processors that the calling thread may run on, and that a quota of its control group (version 2)
// or of one above pays for, rounded up. At least 1.
int usable_processors();

// Of the text of a group's cpu.max, as the kernel writes it: "200000 100000" pays for 2 processors,
// "max 100000" for all, which is none here.
std::optional<int> processors_of_quota(std::string_view cpu_max);

}  // namespace xception
