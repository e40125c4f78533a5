// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/view.hpp>

#include <utility>

#include <cohort/sharepool/detail/areas.hpp>
#include <cohort/sharepool/detail/opened.hpp>

namespace cohort::sharepool {

using namespace detail;

view::view(std::unique_ptr<heap> h) : heap_(std::move(h)) {}
view::view(view&&) noexcept = default;
view::~view() {
    if (heap_) close_group(*heap_);
}

result<view> view::attach(int data_fd, int metadata_fd) {
    auto opened = open_group(data_fd, metadata_fd, access::read);
    if (!opened) return std::unexpected(opened.error());
    return view(std::move(*opened));
}

const std::byte* view::base() const { return heap_->base; }
std::uint64_t view::bytes() const { return heap_->where.units << unit_shift; }
std::string view::describe(const void* p) const { return description(*heap_, p); }
result<std::size_t> view::usable_size(const void* p) const { return size_at(*heap_, p); }
std::vector<int> view::processes() const { return present_in(*heap_); }
std::vector<usage> view::accounts() const { return accounts_in(*heap_); }
census view::count() const { return count_of(*heap_); }
area_list view::areas() const { return areas_of(*heap_); }
result<void> view::map_import(void* at, std::size_t bytes, int fd, std::uint64_t offset) { return detail::map_import(*heap_, at, bytes, fd, offset, access::read); }
result<void> view::unmap_import(void* at) { return detail::unmap_import(*heap_, at, access::read); }
result<std::uint64_t> view::populate() { return detail::populate(*heap_, access::read); }

}  // namespace cohort::sharepool
