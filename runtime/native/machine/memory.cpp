#include "machine/memory.h"

#include <algorithm>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sta {
namespace {

// Chunks double up to the largest: small programs need little.
constexpr std::size_t smallest_chunk = 64 << 10, largest_chunk = 4 << 20;

constexpr std::size_t cache_line = 64, huge_page = 2 << 20;

}  // namespace

// Weights are read from end to end in every run: where pages are large, the processor seldom has to look them up.
Bytes::Data Bytes::allocate(std::size_t size) {
    const std::align_val_t alignment{size < huge_page ? cache_line : huge_page};
    Data data(new (alignment) std::uint8_t[size], Free{alignment});
#if defined(__linux__)
    if (size >= huge_page) madvise(data.get(), size / huge_page * huge_page, MADV_HUGEPAGE);
#endif
    return data;
}

std::uint8_t* Arena::take(std::size_t size) {
    const std::lock_guard lock(mutex_);
    const std::size_t rounded = (size + 63) / 64 * 64;
    if (chunks_.empty() || chunks_.back().size() - used_ < rounded) {
        const std::size_t usual = chunks_.empty() ? smallest_chunk : 2 * chunks_.back().size();
        chunks_.emplace_back(std::max(rounded, std::min(usual, largest_chunk)));
        used_ = 0;
    }
    std::uint8_t* piece = chunks_.back().data() + used_;
    used_ += rounded;
    return piece;
}

std::uint8_t* WeightBuffer::settled() {
    for (const Segment& segment : segments_) copy(segment);
    segments_.clear();
    return memory_.data();
}

void WeightBuffer::fill(std::uint8_t byte) {
    segments_.clear();
    std::memset(memory_.data(), byte, memory_.size());
}

void WeightBuffer::load_constants(std::int64_t address, std::int64_t size, const std::uint8_t* source) {
    clear(address, address + size);
    segments_.insert(first_ending_after(address), Segment{address, address + size, source});
}

std::uint8_t* WeightBuffer::writable(std::int64_t address, std::int64_t size) {
    clear(address, address + size);
    return memory_.data() + address;
}

View WeightBuffer::read(std::int64_t address, std::int64_t size) {
    const auto segment = first_ending_after(address);
    if (segment == segments_.end() || segment->begin >= address + size) return {memory_.data() + address, false};
    if (segment->begin <= address && address + size <= segment->end) {
        return {segment->source + (address - segment->begin), true};
    }
    auto last = segment;
    for (; last != segments_.end() && last->begin < address + size; ++last) copy(*last);
    segments_.erase(segment, last);
    return {memory_.data() + address, false};
}

std::vector<WeightBuffer::Segment>::iterator WeightBuffer::first_ending_after(std::int64_t address) {
    return std::lower_bound(segments_.begin(), segments_.end(), address,
                            [](const Segment& segment, std::int64_t value) { return segment.end <= value; });
}

void WeightBuffer::copy(const Segment& segment) {
    std::memcpy(memory_.data() + segment.begin, segment.source, static_cast<std::size_t>(segment.end - segment.begin));
}

void WeightBuffer::clear(std::int64_t begin, std::int64_t end) {
    const auto first = first_ending_after(begin);
    auto last = first;
    for (; last != segments_.end() && last->begin < end; ++last) {
        if (last->begin < begin || last->end > end) copy(*last);
    }
    segments_.erase(first, last);
}

}  // namespace sta
