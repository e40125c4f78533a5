// SPDX-License-Identifier: Apache-2.0
/// Where a block of records ends.
///
///     last_record_end("ab\ncd\nef", "\n") == 6;      // "ef" waits for its end
///     last_record_end("abcdef", "\n") == 0;
///
/// Kernel: no counterpart; `parallel --pipe` and `split -C` cut files in this way.
#pragma once

#include <cstddef>
#include <string_view>

#include <cohort/stream/block.hpp>

namespace cohort::stream {

/// The number of bytes up to and with the last separator; 0 when there is none. `separator` is not empty; several bytes are looked for as they are.
/// Cost: from the back, so it reads about one record.
inline std::size_t last_record_end(byte_view bytes, std::string_view separator) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const std::size_t at = text.rfind(separator);
    return at == std::string_view::npos ? 0 : at + separator.size();
}

/// The number of bytes up to and with the first separator that ends at or after `from`; 0 when there is none.
inline std::size_t first_record_end(byte_view bytes, std::size_t from, std::string_view separator) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const std::size_t back = separator.size() - 1;
    const std::size_t at = text.find(separator, from > back ? from - back : 0);
    return at == std::string_view::npos ? 0 : at + separator.size();
}

}  // namespace cohort::stream
