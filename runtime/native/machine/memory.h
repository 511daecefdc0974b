// The memories of the machine.

#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

namespace sta {

// Bytes that kernels may read, but never write, beyond the end of a memory.
constexpr std::size_t slack_bytes = 64;

// Zeroed bytes, aligned to cache lines, with slack at the end.
class Bytes {
public:
    explicit Bytes(std::size_t size) : size_(size), data_(allocate(size + slack_bytes)) {
        std::memset(data_.get(), 0, size + slack_bytes);
    }

    std::uint8_t* data() const { return data_.get(); }
    std::size_t size() const { return size_; }

private:
    struct Free {
        void operator()(std::uint8_t* data) const { ::operator delete[](data, alignment); }

        std::align_val_t alignment;
    };
    using Data = std::unique_ptr<std::uint8_t[], Free>;

    static Data allocate(std::size_t size);

    std::size_t size_;
    Data data_;
};

// Pieces of memory that lie one after the other in the order in which they are taken, and last as long as the arena:
// what is read in that order again is read ahead by the processor. Any number of threads may take pieces.
class Arena {
public:
    std::uint8_t* take(std::size_t size);

private:
    std::mutex mutex_;
    std::vector<Bytes> chunks_;
    std::size_t used_ = 0;  // of the last chunk
};

// Bytes of a memory, and where they come from.
struct View {
    const std::uint8_t* bytes;
    bool constant;  // in the constants, so that they are the same at this address for ever
};

// The weight buffer. What is loaded from the constants, which never change, is copied only when something asks for
// more than a part of one load; until then a read is served from the constants themselves.
class WeightBuffer {
public:
    explicit WeightBuffer(std::size_t size) : memory_(size) {}

    std::size_t size() const { return memory_.size(); }

    // The memory with everything in place.
    std::uint8_t* settled();

    void fill(std::uint8_t byte);
    void load_constants(std::int64_t address, std::int64_t size, const std::uint8_t* source);
    // Where bytes may be written.
    std::uint8_t* writable(std::int64_t address, std::int64_t size);
    View read(std::int64_t address, std::int64_t size);

private:
    struct Segment {
        std::int64_t begin, end;
        const std::uint8_t* source;
    };

    std::vector<Segment>::iterator first_ending_after(std::int64_t address);
    void copy(const Segment& segment);
    // Drops the segments inside a range; those that reach beyond it are copied first.
    void clear(std::int64_t begin, std::int64_t end);

    Bytes memory_;
    std::vector<Segment> segments_;  // disjoint, ascending
};

}  // namespace sta
