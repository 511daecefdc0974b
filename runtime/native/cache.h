// What is derived from constants, such as weights laid out for the kernels: computed once for each address.

#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

namespace sta {

// Bytes that all caches of a program may take together; a program that needs more derives again what finds no room.
using Budget = std::atomic<std::int64_t>;

// By the address of the constants. Any number of threads may use it.
template <typename Derived>
class Cache {
public:
    explicit Cache(Budget& budget) : budget_(budget) {}

    // Null if there is none.
    const Derived* find(const std::uint8_t* address) const {
        const std::shared_lock lock(mutex_);
        const auto found = entries_.find(address);
        return found == entries_.end() ? nullptr : found->second.get();
    }

    bool has_room(std::int64_t size) const { return budget_.load() >= size; }

    // Keeps what has been derived, unless another thread was faster.
    const Derived* keep(const std::uint8_t* address, std::unique_ptr<Derived> derived, std::int64_t size) {
        const std::unique_lock lock(mutex_);
        const auto [entry, is_new] = entries_.try_emplace(address, std::move(derived));
        if (is_new) budget_.fetch_sub(size);
        return entry->second.get();
    }

private:
    Budget& budget_;
    mutable std::shared_mutex mutex_;
    std::unordered_map<const std::uint8_t*, std::unique_ptr<Derived>> entries_;
};

}  // namespace sta
