// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/control.hpp>

#include <cctype>
#include <optional>
#include <span>
#include <system_error>
#include <thread>

#include <cohort/padata/detail/control_files.hpp>
#include <cohort/padata/detail/control_place.hpp>
#include <cohort/padata/detail/control_server.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/local_socket.hpp>
#include <cohort/sys/rseq.hpp>
#include <cohort/sys/thread.hpp>
#include <cohort/sys/watch.hpp>

namespace cohort::padata {

namespace {

constexpr std::uint64_t look_ns = 50'000'000;       // polled: how often files are looked at
constexpr std::uint64_t refresh_ns = 500'000'000;   // notified: how soon a file that was removed is made again

/// A name for files and sockets.
std::string plain(const std::string& name) {
    std::string out;
    for (const char c : name.substr(0, 48)) out += std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ? c : '_';
    return out.empty() ? "padata" : out;
}

/// A listener for "PID.NAME", or for "PID.NAME.2" and so on where that is taken.
result<int> listen_as(sys::os& os, const std::string& name, std::string& id) {
    const std::string first = std::to_string(os.getpid()) + "." + plain(name);
    for (int n = 1;; ++n) {
        id = n == 1 ? first : first + "." + std::to_string(n);
        auto fd = sys::listen_local(detail::socket_prefix + id);
        if (fd || fd.error().code != EADDRINUSE || n == 1000) return fd;
    }
}

}  // namespace

/// Synchronization: the thread has everything from its start to its end, save what on_change_ uses.
class control::body {
public:
    body(sys::os& os, instance& inst) : os_(os), inst_(inst) {}
    ~body() {
        if (listening_) (void)inst_.changes().remove(on_change_);
        (void)wake_write_.close();  // the other end hangs up
        if (thread_.joinable()) thread_.join();
        (void)listener_.close();
        watch_.reset();
        if (place_) place_->leave();
    }

    result<void> start(const control_options& options) {
        auto listener = listen_as(os_, inst_.name(), id_);
        if (!listener) return std::unexpected(listener.error());
        listener_ = sys::owned_fd(sys::real(), *listener);
        auto place = options.directory.empty() ? detail::control_place::own(os_, id_) : detail::control_place::given(os_, options.directory);
        if (!place) return std::unexpected(place.error());
        place_.emplace(std::move(*place));
        if (options.how == control_options::watch::notified) {
            if (auto watch = sys::dir_watch::create(directory())) watch_.emplace(std::move(*watch));
        }
        files_.emplace(os_, inst_, directory());
        files_->watch_writes(watch_.has_value());
        if (auto r = files_->create(); !r) return r;
        auto ends = os_.pipe();
        if (!ends) return std::unexpected(ends.error());
        wake_read_ = sys::owned_fd(os_, ends->read);
        wake_write_ = sys::owned_fd(os_, ends->write);
        for (const int end : {ends->read, ends->write}) {
            if (auto r = os_.set_nonblocking(end, true); !r) return r;
        }
        if (auto r = inst_.changes().add(on_change_); !r) return r;
        listening_ = true;
        try {
            const sys::signals_blocked quiet;  // no handler of the program's runs on it
            thread_ = std::thread([this] { run(); });
        } catch (const std::system_error& e) {
            return fail(e.code().value(), "padata \"" + inst_.name() + "\"", "start a thread", errno_text(e.code().value()));
        }
        return {};
    }

    const std::string& directory() const { return place_->path(); }
    const std::string& id() const { return id_; }

private:
    void run() {
        sys::name_thread("padata-control");
        std::uint64_t next = os_.now();
        for (bool more = false;;) {
            sys::poll_item items[3] = {{.fd = wake_read_.get(), .want_read = true}, {.fd = listener_.get(), .want_read = true}, {.fd = watch_ ? watch_->fd() : -1, .want_read = true}};
            const std::uint64_t now = os_.now();
            auto ready = os_.poll(items, more ? 0 : next > now ? next - now : 0);
            if (!ready) os_.sleep_until(now + look_ns);
            if (items[0].hung_up) return;
            if (items[0].can_read) take_wake();
            if (ready && items[1].can_read) answer();
            collect();
            if (os_.now() >= next) {
                if (!watch_) files_->look();
                files_->refresh(true);
                next = os_.now() + (watch_ ? refresh_ns : look_ns);
            }
            more = files_->settle([this] { collect(); });
        }
    }

    void take_wake() {
        std::byte some[64];
        while (auto n = os_.read(wake_read_.get(), some)) {
            if (*n < sizeof some) break;
        }
        files_->refresh();
    }

    void answer() {
        auto who = sys::accept_local(listener_.get());
        if (!who) return;
        detail::serve({inst_, id_, directory()}, *who);
    }

    void collect() {
        if (!watch_) return;
        const auto news = watch_->news();
        for (const sys::dir_event& e : news ? *news : std::vector<sys::dir_event>{}) files_->take(e);
    }

    sys::os& os_;                                 // [const after init]
    instance& inst_;                              // [const after init]
    std::string id_;                              // [const after init]
    std::optional<detail::control_place> place_;  // [const after init]
    sys::owned_fd listener_;                      // [const after init]
    std::optional<sys::dir_watch> watch_;         // [the thread]
    std::optional<detail::control_files> files_;  // [the thread]
    sys::owned_fd wake_read_, wake_write_;        // [const after init] a byte: masks have changed; closed by the destructor: the end
    notifier::block on_change_{[this](unsigned long event, void*) {
        const std::byte one{};
        if (event == masks_changed) (void)os_.write(wake_write_.get(), std::span(&one, 1));  // full: it wakes as it is
        return notifier::ok;
    }};
    bool listening_ = false;                      // [const after init]
    std::thread thread_;
};

control::control(std::unique_ptr<body> b) : body_(std::move(b)) {}
control::~control() = default;
const std::string& control::directory() const { return body_->directory(); }
const std::string& control::id() const { return body_->id(); }

result<std::unique_ptr<control>> control::create(instance& inst, control_options options) {
    auto b = std::make_unique<body>(options.system ? *options.system : sys::real(), inst);
    if (auto r = b->start(options); !r) return std::unexpected(r.error());
    return std::unique_ptr<control>(new control(std::move(b)));
}

}  // namespace cohort::padata
