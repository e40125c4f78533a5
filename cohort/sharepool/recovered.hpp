// SPDX-License-Identifier: Apache-2.0
/// What becomes of a member's blocks and areas when it dies, and what was done.
#pragma once

#include <cstdint>

namespace cohort::sharepool {

enum class at_death : std::uint8_t {
    keep_handed_over,  ///< what it had handed over stays, as nobody's, until a member frees it; the rest is freed
    free_all,          ///< everything that it owned is freed: no other member uses any of it
    keep_all,          ///< everything that it owned stays, as nobody's
};

struct recovered {
    std::uint64_t blocks_freed = 0;      ///< those that it was about to free or to hand out, too
    std::uint64_t blocks_kept = 0;
    std::uint64_t areas_freed = 0;
    std::uint64_t areas_kept = 0;
    std::uint64_t runs_finished = 0;     ///< of units that it was claiming or giving back
    std::uint64_t superblocks_released = 0;  ///< that it was taking blocks out of
    std::uint64_t garbage = 0;           ///< counts and items in magazines that were none

    recovered& operator+=(const recovered& o) {
        blocks_freed += o.blocks_freed, blocks_kept += o.blocks_kept, areas_freed += o.areas_freed, areas_kept += o.areas_kept;
        runs_finished += o.runs_finished, superblocks_released += o.superblocks_released, garbage += o.garbage;
        return *this;
    }
};

}  // namespace cohort::sharepool
