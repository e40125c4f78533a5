// SPDX-License-Identifier: Apache-2.0
/// An intrusive stack for each CPU: push and pop without a lock, on the CPU that the thread is on.
///
///     struct buffer { buffer* next; char bytes[2048]; };
///     auto spare = percpu::list<buffer, &buffer::next>::create().value();
///     spare.push(b);                                           // any thread, also in a signal handler
///     if (buffer* again = spare.pop()) ...                     // null: this CPU has none
///     spare.drain([](buffer* left) { delete left; });          // when nobody else uses it any more
///
/// Source: the per-CPU list of the restartable sequences' test suite (tools/testing/selftests/rseq, v6.12) is the usual example of it.
#pragma once

#include <atomic>
#include <cstdint>

#include <cohort/percpu/allocator.hpp>

namespace cohort::percpu {

/// Synchronization: push, pop and take_all by any thread; what was written to a node before push is seen by who pops it. The list does not own its nodes.
/// A node that was popped may be freed at once, save where there are no restartable sequences: there another thread may still read its link, and nodes have
/// to stay readable as long as the list is used.
template <class Node, Node* Node::*Next, by Index = by::cpu>
class list {
public:
    /// Errors: ENOMEM.
    static result<list> create() {
        auto head = make<std::uintptr_t, Index>();
        if (!head) return std::unexpected(std::move(head).error());
        return list(std::move(*head));
    }

    void push(Node* node) noexcept {
        detail::annotate_node_given(node);
        while (!detail::sequence::list_push<Index, layout>(head_.get().value(), address(node), address(&(node->*Next)))) {
            if (!detail::arrive(Index)) return push_by_atomics(node);
        }
    }

    /// The node that was pushed last on this CPU, or null.
    Node* pop() noexcept {
        for (std::uintptr_t node;;) {
            if (detail::sequence::list_pop<Index, layout>(head_.get().value(), next_at(), node)) return taken(node);
            if (!detail::arrive(Index)) return pop_by_atomics();
        }
    }

    /// All nodes of this CPU, the newest first, joined by Next; null: none.
    Node* take_all() noexcept {
        auto* first = reinterpret_cast<Node*>(this_cpu::xchg(head_.get(), 0) & address_mask);
        for (Node* n = first; n; n = n->*Next) detail::annotate_node_taken(n);
        return first;
    }

    /// Takes all nodes of all CPUs and calls f(node) for each. No other thread may use the list.
    template <class F>
    void drain(F&& f) {
        for_each_present_cpu(head_.get(), [&](unsigned, std::uintptr_t& head) {
            Node* n = reinterpret_cast<Node*>(std::exchange(head, 0) & address_mask);
            while (n) {
                detail::annotate_node_taken(n);
                Node* const next = n->*Next;
                f(n);
                n = next;
            }
        });
    }

private:
    static constexpr detail::layout layout = handle<std::uintptr_t, Index>::layout;
    // With atomics the bits above the address count pops, so that a head that left and came back is not taken for the same.
    static constexpr std::uintptr_t address_mask = (std::uintptr_t{1} << 48) - 1, one_pop = std::uintptr_t{1} << 48;

    explicit list(ptr<std::uintptr_t, Index> head) : head_(std::move(head)) {}

    static std::uintptr_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }
    static std::ptrdiff_t next_at() {
        alignas(Node) static constexpr std::byte frame[sizeof(Node)] = {};
        return static_cast<std::ptrdiff_t>(address(&(reinterpret_cast<const Node*>(frame)->*Next)) - address(frame));
    }
    static Node* taken(std::uintptr_t node) {
        auto* n = reinterpret_cast<Node*>(node);
        if (n) detail::annotate_node_taken(n);
        return n;
    }

    void push_by_atomics(Node* node) noexcept {
        auto head = detail::current_word(head_.get());
        std::uintptr_t old = head.load(std::memory_order_relaxed);
        do {
            std::atomic_ref(node->*Next).store(reinterpret_cast<Node*>(old & address_mask), std::memory_order_relaxed);
            // release: the node. Pairs with [acquire: pop_by_atomics].
        } while (!head.compare_exchange_weak(old, (old & ~address_mask) | address(node), std::memory_order_release, std::memory_order_relaxed));
    }
    Node* pop_by_atomics() noexcept {
        auto head = detail::current_word(head_.get());
        std::uintptr_t old = head.load(std::memory_order_acquire);
        for (;;) {
            auto* const node = reinterpret_cast<Node*>(old & address_mask);
            if (!node) return nullptr;
            Node* const next = std::atomic_ref(node->*Next).load(std::memory_order_relaxed);
            if (head.compare_exchange_weak(old, ((old & ~address_mask) + one_pop) | address(next), std::memory_order_acquire)) return node;
        }
    }

    ptr<std::uintptr_t, Index> head_;
};

}  // namespace cohort::percpu
