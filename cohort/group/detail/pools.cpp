// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/pools.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>

#include <cohort/group/apply.hpp>
#include <cohort/sharepool/broker/broker.hpp>
#include <cohort/sharepool/broker/client.hpp>
#include <cohort/sharepool/share_pool.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::group::detail {

/// The broker, if it is ours, and this process's part in its groups. One thread.
class pool_host {
public:
    explicit pool_host(sys::os& os) : os_(os) {}
    pool_host(const pool_host&) = delete;
    pool_host& operator=(const pool_host&) = delete;
    ~pool_host();
    result<void> begin();
    /// A group, and ourselves in it.
    result<std::pair<int, sharepool::member*>> make(const cohort_plan& c);
    void unmake(int id);
    const std::string& socket() const { return socket_; }
    bool own() const { return broker_ != nullptr; }

private:
    result<void> run_broker();

    sys::os& os_;
    std::string socket_, folder_;
    std::unique_ptr<sharepool::broker> broker_;           // [its thread's, while that runs]
    std::thread thread_;
    std::atomic<bool> stop_{false};
    std::optional<sharepool::broker_client> client_;
    std::unique_ptr<sharepool::share_pool> own_;
    sharepool::share_pool* pool_ = nullptr;
};

std::string pool_folder(sys::os& os) { return run_directory(os) + "/pool." + std::to_string(os.getpid()); }

result<void> pool_host::run_broker() {
    folder_ = pool_folder(os_);
    for (const std::string& path : {run_directory(os_), folder_}) {
        if (auto made = make_run_directory(os_, path); !made) return made;
    }
    socket_ = folder_ + "/pool.sock";
    auto b = sharepool::broker::create({.socket = socket_, .journal = "", .settings = {}, .may_create = {}, .say = {}});
    if (!b) return std::unexpected(b.error());
    broker_ = std::move(*b);
    thread_ = std::thread([this] {
        while (!stop_ && broker_->step(std::chrono::seconds(1))) {}
    });
    return {};
}

result<void> pool_host::begin() {
    socket_ = os_.getenv("COHORT_SOCKET").value_or("");
    if (socket_.empty()) {
        if (auto r = run_broker(); !r) return r;
    }
    auto c = sharepool::broker_client::connect(socket_);
    if (!c) return std::unexpected(c.error());
    client_.emplace(std::move(*c));
    pool_ = sharepool::share_pool::current();  // `cohort pool exec -- cohort up ...`
    if (pool_) return {};
    auto attached = sharepool::share_pool::attach({.socket = socket_});
    if (!attached) return std::unexpected(attached.error());
    own_ = std::move(*attached);
    pool_ = own_.get();
    return {};
}

result<std::pair<int, sharepool::member*>> pool_host::make(const cohort_plan& c) {
    namespace wire = sharepool::wire;
    constexpr std::uint32_t flags_of[] = {0, wire::huge_if_possible, wire::huge_only};
    const std::uint32_t flags = flags_of[static_cast<int>(c.pool.huge)];
    const auto id = client_->create({.id = sharepool::spg_id_auto, .bytes = c.pool.bytes, .name = c.name.substr(0, 31), .mode = 0600, .limit = c.pool.limit, .flags = flags});
    if (!id) return std::unexpected(id.error());
    const auto joined = pool_->group_add_task(os_.getpid(), *id);
    sharepool::member* m = joined ? pool_->in(*id) : nullptr;
    if (m) return std::pair(*id, m);
    unmake(*id);
    if (!joined) return std::unexpected(joined.error());
    return fail(ENODEV, "group " + std::to_string(*id), "use it", "this process is not in it");
}

void pool_host::unmake(int id) {
    (void)pool_->group_del_task(os_.getpid(), id);
    (void)client_->destroy(id, true);
}

pool_host::~pool_host() {
    own_.reset();
    stop_ = true;
    client_.reset();  // its end wakes the broker
    if (thread_.joinable()) thread_.join();
    broker_.reset();
    if (folder_.empty()) return;
    for (const char* file : {"/pool.sock", "/pool.sock.lock"}) (void)os_.unlink(folder_ + file);
    (void)os_.rmdir(folder_);
}

std::vector<std::string> pool::environment(bool read_only) const {
    return {"COHORT_SOCKET=" + socket_, "COHORT_POOL_JOIN=" + std::to_string(id_) + (read_only ? ":r" : "")};
}

std::uint64_t pool::look() {
    const std::uint64_t now = sys::allocated_bytes(member_.internals().data_fd);
    const std::lock_guard hold(lock_);
    peak_ = std::max(peak_, now);
    return now;
}

pool_report pool::report() {
    pool_report r;
    r.cohort = plan_.name, r.bytes = member_.bytes(), r.limit = plan_.pool.limit;
    look();
    const sharepool::recovered gone = member_.recover_dead();
    (void)member_.trim();
    const sharepool::census n = member_.count();
    r.freed = gone.blocks_freed + gone.areas_freed;
    r.left = n.owned + n.kept + n.areas, r.lost = n.lost + n.twice;
    r.left_bytes = look();
    const std::lock_guard hold(lock_);
    r.peak = peak_;
    return r;
}

pools::pools() = default;
pools::pools(pools&&) noexcept = default;
pools& pools::operator=(pools&& other) noexcept {
    std::swap(host_, other.host_), std::swap(all_, other.all_);
    return *this;
}
pools::~pools() {
    for (const auto& [name, one] : all_) host_->unmake(one->id());
}

result<pools> pools::create(const plan& p, sys::os& os, std::weak_ptr<pool_host>& broker) {
    pools all;
    for (const cohort_plan& c : p.cohorts) {
        if (!c.pool) continue;
        const auto named = [&](error e) {
            e.object = "cohort \"" + c.name + "\": its pool: " + e.object;
            return std::unexpected(std::move(e));
        };
        if (!all.host_) all.host_ = broker.lock();
        if (!all.host_) {
            all.host_ = std::make_shared<pool_host>(os);
            if (auto begun = all.host_->begin(); !begun) return named(begun.error());
            broker = all.host_;
        }
        const auto made = all.host_->make(c);
        if (!made) return named(made.error());
        all.all_.emplace_back(c.name, std::make_unique<pool>(c, made->first, all.host_->socket(), *made->second));
    }
    return all;
}

pool* pools::of(const cohort_plan& c) const {
    const std::string& whose = c.pool.of.empty() ? c.name : c.pool.of;
    const auto it = std::find_if(all_.begin(), all_.end(), [&](const auto& entry) { return entry.first == whose; });
    return it == all_.end() ? nullptr : it->second.get();
}

std::vector<pool_place> pools::places() const {
    std::vector<pool_place> out;
    for (const auto& [name, one] : all_) out.push_back({name, one->id(), host_->socket(), host_->own(), one->member().bytes()});
    return out;
}

void pools::sample(std::map<std::string, std::uint64_t>& to) const {
    for (const auto& [name, one] : all_) to[name] = one->look();
}

std::vector<pool_report> pools::report() {
    std::vector<pool_report> out;
    for (auto& [name, one] : all_) out.push_back(one->report());
    return out;
}

}  // namespace cohort::group::detail
