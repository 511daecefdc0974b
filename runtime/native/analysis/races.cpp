#include "analysis/races.h"

#include <algorithm>
#include <array>
#include <bit>
#include <set>
#include <span>
#include <tuple>
#include <unordered_map>

namespace sta {
namespace {

// Most rows of different tiles, and most segments in these: what the check keeps stays below some 1 GB.
constexpr std::int64_t most_rows = 1 << 23;
constexpr std::size_t most_segments = 1 << 24;
constexpr int rows_between_looks = 1 << 16;

// Rows of bytes in a memory. Rows that lie next to each other are one.
struct Rectangle {
    std::int64_t first, stride, rows, row_bytes;

    bool operator==(const Rectangle&) const = default;
};

struct Hash {
    std::size_t operator()(const Rectangle& tile) const {
        std::uint64_t hash = 0;
        for (const std::int64_t value : {tile.first, tile.stride, tile.rows, tile.row_bytes}) {
            hash = (hash ^ static_cast<std::uint64_t>(value)) * 0x9e3779b97f4a7c15u;
            hash ^= hash >> 29;
        }
        return static_cast<std::size_t>(hash);
    }
};

// A set of addresses that tells how many of its members are below an address.
class Boundaries {
public:
    explicit Boundaries(std::int64_t size) : words_(static_cast<std::size_t>(size / 64 + 1)), before_(words_.size()) {}

    void add(std::int64_t address) { words_[static_cast<std::size_t>(address / 64)] |= bit(address); }

    // After the last address has been added.
    void count() {
        std::int32_t sum = 0;
        for (std::size_t word = 0; word < words_.size(); ++word) {
            before_[word] = sum;
            sum += std::popcount(words_[word]);
        }
        size_ = sum;
    }

    std::int32_t size() const { return size_; }

    std::int32_t below(std::int64_t address) const {
        const auto word = static_cast<std::size_t>(address / 64);
        return before_[word] + std::popcount(words_[word] & (bit(address) - 1));
    }

private:
    static std::uint64_t bit(std::int64_t address) { return std::uint64_t{1} << (address % 64); }

    std::vector<std::uint64_t> words_;
    std::vector<std::int32_t> before_;
    std::int32_t size_ = 0;
};

// Parts with successive numbers.
struct Parts {
    std::int32_t first, end;
};

// The tiles of one memory, and their parts: what no tile divides, and all tiles that touch it touch as a whole.
class Tiles {
public:
    // The number of a tile, the same for equal ones.
    std::int32_t number(const Rectangle& tile) {
        const auto [found, is_new] = numbers_.try_emplace(tile, static_cast<std::int32_t>(tiles_.size()));
        if (is_new) {
            tiles_.push_back(tile);
            rows_ += tile.rows;
            end_ = std::max(end_, tile.first + (tile.rows - 1) * tile.stride + tile.row_bytes);
        }
        return found->second;
    }

    std::int64_t rows() const { return rows_; }

    // Finds the parts of all tiles; false if they are too many.
    bool divide() {
        Boundaries boundaries(end_);
        for (const Rectangle& tile : tiles_) {
            for (std::int64_t row = 0; row < tile.rows; ++row) {
                boundaries.add(tile.first + row * tile.stride);
                boundaries.add(tile.first + row * tile.stride + tile.row_bytes);
            }
        }
        boundaries.count();
        if (!find_segments(boundaries)) return false;
        refine(static_cast<std::size_t>(boundaries.size()));
        return true;
    }

    std::int32_t part_count() const { return part_count_; }

    // The parts of a tile.
    std::span<const Parts> parts(std::int32_t tile) const {
        const auto number = static_cast<std::size_t>(tile);
        return {parts_.data() + first_parts_[number], parts_.data() + first_parts_[number + 1]};
    }

private:
    // Segments lie between two neighbouring boundaries.
    bool find_segments(const Boundaries& boundaries) {
        first_segment_.push_back(0);
        for (const Rectangle& tile : tiles_) {
            for (std::int64_t row = 0; row < tile.rows; ++row) {
                const std::int64_t first = tile.first + row * tile.stride;
                const std::int32_t end = boundaries.below(first + tile.row_bytes);
                for (std::int32_t segment = boundaries.below(first); segment < end; ++segment) segments_.push_back(segment);
                if (segments_.size() > most_segments) return false;
            }
            first_segment_.push_back(segments_.size());
        }
        return true;
    }

    // Puts segments into one part if they are in the same tiles: each tile in turn splits the parts that it cuts.
    void refine(std::size_t segment_count) {
        std::vector<std::int32_t> part(segment_count, 0), moved(1, 0);
        std::vector<std::int32_t> mover(1, -1);
        for (std::size_t tile = 0; tile < tiles_.size(); ++tile) {
            const auto fresh = static_cast<std::int32_t>(moved.size());
            for (std::size_t index = first_segment_[tile]; index < first_segment_[tile + 1]; ++index) {
                std::int32_t& own = part[static_cast<std::size_t>(segments_[index])];
                if (own >= fresh) continue;  // where rows overlap
                const auto old = static_cast<std::size_t>(own);
                if (mover[old] != static_cast<std::int32_t>(tile)) {
                    mover[old] = static_cast<std::int32_t>(tile);
                    moved[old] = static_cast<std::int32_t>(moved.size());
                    moved.push_back(0);
                    mover.push_back(-1);
                }
                own = moved[old];
            }
        }
        collect(part, moved.size());
    }

    // Numbers the parts that are left, and lists those of each tile.
    void collect(const std::vector<std::int32_t>& part, std::size_t part_count) {
        std::vector<std::int32_t> number(part_count, -1), seen, parts;
        first_parts_.push_back(0);
        for (std::size_t tile = 0; tile < tiles_.size(); ++tile) {
            parts.clear();
            for (std::size_t index = first_segment_[tile]; index < first_segment_[tile + 1]; ++index) {
                std::int32_t& own = number[static_cast<std::size_t>(part[static_cast<std::size_t>(segments_[index])])];
                if (own < 0) {
                    own = part_count_++;
                    seen.push_back(-1);
                }
                if (seen[static_cast<std::size_t>(own)] == static_cast<std::int32_t>(tile)) continue;
                seen[static_cast<std::size_t>(own)] = static_cast<std::int32_t>(tile);
                parts.push_back(own);
            }
            std::sort(parts.begin(), parts.end());
            add_parts(parts);
        }
        segments_ = {};
        first_segment_ = {};
    }

    // Adds the parts of a tile, ascending.
    void add_parts(const std::vector<std::int32_t>& parts) {
        for (const std::int32_t part : parts) {
            const bool goes_on = parts_.size() > first_parts_.back() && parts_.back().end == part;
            if (goes_on) ++parts_.back().end;
            else parts_.push_back({part, part + 1});
        }
        first_parts_.push_back(parts_.size());
    }

    std::unordered_map<Rectangle, std::int32_t, Hash> numbers_;
    std::vector<Rectangle> tiles_;
    std::int64_t rows_ = 0, end_ = 0;
    std::vector<std::size_t> first_segment_, first_parts_;  // by tile
    std::vector<std::int32_t> segments_;
    std::vector<Parts> parts_;
    std::int32_t part_count_ = 0;
};

// For each part of a memory, how many instructions a unit had begun when one of them last read it; or wrote it.
class Marks {
public:
    void resize(std::size_t parts) { begun_.resize(parts); }

    // The latest one in some parts, if it is after `known`; otherwise anything that is not.
    std::int32_t latest(std::span<const Parts> all, std::int32_t known) const {
        if (latest_ <= known) return latest_;
        std::int32_t found = 0;
        for (const Parts& parts : all) {
            for (std::int32_t part = parts.first; part < parts.end; ++part) {
                found = std::max(found, begun_[static_cast<std::size_t>(part)]);
            }
        }
        return found;
    }

    // A unit begins one instruction after the other.
    void set(std::span<const Parts> all, std::int32_t begun) {
        for (const Parts& parts : all) std::fill(begun_.begin() + parts.first, begun_.begin() + parts.end, begun);
        latest_ = begun;
    }

private:
    std::vector<std::int32_t> begun_;
    std::int32_t latest_ = 0;
};

// By whether an instruction writes, and by unit.
using MarksOfMemory = std::array<std::vector<Marks>, 2>;

class Checker {
public:
    Checker(const Run& run, const Clocks& clocks, std::size_t limit) : run_(run), clocks_(clocks), limit_(limit) {
        if (clocks.rows() != run.size() || clocks.units() != run.units()) throw BadDescription("clocks of another run");
    }

    // Numbers the tiles of all accesses, in the order of the run, and finds their parts; false if they are too many.
    bool find_tiles(const Program::Look& look) {
        std::int64_t row = 0;
        bool few = true;
        run_.program.follow(look, [&](int pc, const std::int64_t* counters, std::int64_t) {
            if (row >= static_cast<std::int64_t>(run_.size()) || run_.pc[static_cast<std::size_t>(row++)] != pc) {
                throw BadDescription("a schedule of another program");
            }
            if (!run_.program.job(pc)) return true;
            for (const Access& access : run_.program.accesses(pc)) tile_of_access_.push_back(number(access, counters));
            std::int64_t rows = 0;
            for (const Tiles& tiles : tiles_) rows += tiles.rows();
            few = rows <= most_rows;
            return few;
        });
        for (int space = 0; few && space < space_count; ++space) {
            Tiles& tiles = tiles_[static_cast<std::size_t>(space)];
            few = tiles.divide();
            for (std::vector<Marks>& of_units : marks_[static_cast<std::size_t>(space)]) {
                of_units.resize(run_.units());
                for (Marks& marks : of_units) marks.resize(static_cast<std::size_t>(tiles.part_count()));
            }
        }
        return few;
    }

    RaceCheck run(const Program::Look& look) {
        const std::int32_t* tile = tile_of_access_.data();
        for (std::size_t row = 0; row < run_.size() && check_.found.size() < limit_; ++row) {
            if (row % rows_between_looks == 0) look();
            if (run_.is_fence(row)) continue;
            ++check_.instructions;
            int access_number = 0;
            for (const Access& access : run_.program.accesses(static_cast<int>(run_.pc[row]))) {
                if (*tile >= 0) compare(row, access, access_number, *tile);
                ++access_number;
                ++tile;
            }
            check_.accesses += access_number;
        }
        return std::move(check_);
    }

private:
    // The number of a tile in its memory; -1 if it has no rows.
    std::int32_t number(const Access& access, const std::int64_t* counters) {
        Rectangle tile{access.address.at(counters), access.stride.at(counters), access.rows.at(counters), access.row_bytes};
        if (tile.rows <= 0) return -1;
        check_.bytes += tile.rows * tile.row_bytes;
        if (tile.rows == 1 || tile.stride == tile.row_bytes) {
            tile = {tile.first, 0, 1, tile.rows * tile.row_bytes};
        }
        return tiles_[static_cast<std::size_t>(access.space)].number(tile);
    }

    void compare(std::size_t row, const Access& access, int access_number, std::int32_t tile) {
        const auto space = static_cast<std::size_t>(access.space);
        const std::span<const Parts> parts = tiles_[space].parts(tile);
        MarksOfMemory& marks = marks_[space];
        const auto unit = static_cast<std::size_t>(run_.unit[row]);
        for (std::size_t other = 0; other < run_.units(); ++other) {
            if (other == unit) continue;
            const std::int32_t known = clocks_[row][other];
            for (std::size_t writes = access.writes ? 0 : 1; writes < 2; ++writes) {
                const std::int32_t begun = marks[writes][other].latest(parts, known);
                if (begun <= known) continue;
                report(row, access, access_number, run_.rows_of_unit[other][static_cast<std::size_t>(begun) - 1], writes != 0);
            }
        }
        marks[access.writes][unit].set(parts, run_.position[row] + 1);
    }

    void report(std::size_t row, const Access& access, int access_number, std::int32_t earlier, bool writes) {
        const auto pair = std::tuple{run_.pc[static_cast<std::size_t>(earlier)], run_.pc[row], access.space};
        if (!pairs_.insert(pair).second) return;
        check_.found.push_back({earlier, writes, static_cast<std::int64_t>(row), access_number});
    }

    const Run& run_;
    const Clocks& clocks_;
    std::size_t limit_;
    std::array<Tiles, space_count> tiles_;
    std::array<MarksOfMemory, space_count> marks_;
    std::vector<std::int32_t> tile_of_access_;
    std::set<std::tuple<std::int64_t, std::int64_t, Space>> pairs_;
    RaceCheck check_;
};

}  // namespace

std::optional<RaceCheck> check_races(const Run& run, const Clocks& clocks, std::size_t limit, const Program::Look& look) {
    Checker checker(run, clocks, limit);
    if (!checker.find_tiles(look)) return std::nullopt;
    return checker.run(look);
}

}  // namespace sta
