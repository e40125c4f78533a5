// SPDX-License-Identifier: Apache-2.0
#include "looks.hpp"

#include <cstdio>

#include <cohort/sys/os.hpp>
#include <cohort/sys/signals.hpp>

#include "spec_input.hpp"

namespace cohort::cli {

outcome look_again(const look_options& o, const std::function<result<std::string>(std::int64_t nth)>& look) {
    sys::os& os = sys::real();
    auto caught = sys::signal_catcher::create();
    if (!caught) return std::unexpected(caught.error());
    const bool screen = os.isatty(1) && !o.data;
    const std::int64_t rounds = o.rounds != 0 ? o.rounds : screen ? -1 : 1;
    for (std::int64_t i = 0; i != rounds; ++i) {
        if (i > 0) {
            sys::poll_item wait{.fd = caught->fd(), .want_read = true};
            if (auto w = os.poll({&wait, 1}, static_cast<std::uint64_t>(o.interval_ms) * 1'000'000); !w) return std::unexpected(w.error());
        }
        if (caught->signal() != 0) break;
        auto text = look(i);
        if (!text) return std::unexpected(text.error());
        print((screen ? "\x1b[H\x1b[J" : i > 0 && !o.data ? "\n" : "") + *text);
        if (std::fflush(stdout) != 0) break;  // who reads has gone; it is told at the end
    }
    return exit_code::ok;
}

}  // namespace cohort::cli
