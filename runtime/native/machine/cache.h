// What is derived from constants, such as weights laid out for the kernels: computed once for each address.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace sta {

// Bytes that all caches of a program may take together; a program that needs more derives again what finds no room.
using Budget = std::atomic<std::int64_t>;

// By the address of the constants. Any number of threads may use it; what is found is found without a lock.
template <typename Derived>
class Cache {
public:
    explicit Cache(Budget& budget) : budget_(budget) { grow(); }

    // Null if there is none.
    const Derived* find(const std::uint8_t* address) const {
        const Table& table = *newest_.load(std::memory_order_acquire);
        for (std::size_t index = table.start(address);; index = table.after(index)) {
            const std::uint8_t* found = table.slots[index].address.load(std::memory_order_acquire);
            if (found == address) return table.slots[index].derived;
            if (!found) return nullptr;
        }
    }

    // Has the processor fetch what `find` returns for the blocks behind one of some bytes, which are likely to be asked
    // for next: slot, what it points to and what that points to, each when the one before has arrived.
    void read_ahead(const std::uint8_t* address, std::int64_t bytes) const {
        const Table& table = *newest_.load(std::memory_order_acquire);
        const std::int64_t step = (bytes + alignment - 1) / alignment * alignment;
        __builtin_prefetch(&table.slots[table.start(address + 3 * step)]);
        __builtin_prefetch(table.first_at(address + 2 * step));
        if (const Derived* derived = table.first_at(address + step)) derived->read_ahead();
    }

    bool has_room(std::int64_t size) const { return budget_.load() >= size; }

    // Keeps what has been derived, unless another thread was faster.
    const Derived* keep(const std::uint8_t* address, std::unique_ptr<Derived> derived, std::int64_t size) {
        const std::lock_guard lock(mutex_);
        if (const Derived* known = find(address)) return known;
        budget_.fetch_sub(size);
        if (2 * kept_.size() >= tables_.back()->slots.size()) grow();
        kept_.push_back(std::move(derived));
        tables_.back()->add(address, kept_.back().get());
        return kept_.back().get();
    }

private:
    // Blocks in the constants begin at multiples of it (backend/container.py); if not, nothing is read ahead.
    static constexpr std::int64_t alignment = 64;

    struct Slot {
        std::atomic<const std::uint8_t*> address{nullptr};  // null: empty; otherwise the rest is there, and stays
        const Derived* derived = nullptr;
    };

    // Open addressing; at least half of the slots, a power of two, are empty.
    struct Table {
        explicit Table(int size_bits) : bits(size_bits), slots(std::size_t{1} << size_bits) {}

        std::size_t start(const std::uint8_t* address) const {
            constexpr std::uint64_t golden_ratio = 0x9E3779B97F4A7C15;
            return (reinterpret_cast<std::uintptr_t>(address) * golden_ratio) >> (64 - bits);
        }
        // What is found without looking further; null if that is nothing.
        const Derived* first_at(const std::uint8_t* address) const {
            const Slot& slot = slots[start(address)];
            return slot.address.load(std::memory_order_acquire) == address ? slot.derived : nullptr;
        }
        std::size_t after(std::size_t index) const { return (index + 1) & (slots.size() - 1); }

        void add(const std::uint8_t* address, const Derived* derived) {
            std::size_t index = start(address);
            while (slots[index].address.load(std::memory_order_relaxed)) index = after(index);
            slots[index].derived = derived;
            slots[index].address.store(address, std::memory_order_release);
        }

        int bits;
        std::vector<Slot> slots;
    };

    // The tables before the newest stay: other threads may be looking at them.
    void grow() {
        constexpr int first_bits = 6;
        auto table = std::make_unique<Table>(tables_.empty() ? first_bits : tables_.back()->bits + 1);
        if (!tables_.empty()) {
            for (const Slot& slot : tables_.back()->slots) {
                if (slot.derived) table->add(slot.address.load(std::memory_order_relaxed), slot.derived);
            }
        }
        newest_.store(table.get(), std::memory_order_release);
        tables_.push_back(std::move(table));
    }

    Budget& budget_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<Derived>> kept_;
    std::vector<std::unique_ptr<Table>> tables_;
    std::atomic<const Table*> newest_{nullptr};
};

}  // namespace sta
