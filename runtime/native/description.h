// A program as Python describes it: instructions with the names and values of their fields, and the memory they access.
//
// Names, choices and accesses come from the instruction table (spec/instructions); nothing here knows how an instruction is encoded.

#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace sta {

constexpr int deepest_loop = 8;

// base + sum of step * counters[depth].
struct Affine {
    std::int64_t base = 0;
    std::vector<std::pair<int, std::int64_t>> terms;

    std::int64_t at(const std::int64_t* counters) const {
        std::int64_t value = base;
        for (const auto& [depth, step] : terms) value += step * counters[depth];
        return value;
    }
};

enum class Space { spad, wbuf, acc, constants, writable };

// A rectangle of memory; the addresses of the constants and of the writable part of DRAM each start at 0.
struct Operand {
    Space space = Space::spad;
    Affine address, stride;
    std::int64_t rows = 0, row_bytes = 0;
};

// An instruction is described in a way that contradicts the tables it is made from.
class BadDescription : public std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

constexpr int unit_count = 5;
constexpr int semaphore_count = 16;

// What the timing of an instruction of a unit needs.
struct Job {
    int unit = 0;
    std::int64_t busy = 0, latency = 0;
    std::uint32_t waits = 0, posts = 0;  // a bit for each semaphore
    // A copy whose rows lie next to each other for some counters takes `busy_in_one_piece` then.
    bool may_be_one_piece = false;
    Affine stride;
    std::int64_t row_bytes = 0, busy_in_one_piece = 0;
};

// What an instruction does to the taint of the bytes on the chip.
struct TaintRule {
    struct Result {
        Operand operand;
        bool may_leave;  // untainted, whatever it is made of
    };

    bool transfers = false, always = false, never = false;
    std::vector<Operand> sources;
    std::vector<Result> results;
};

// A rectangle that an instruction reads or writes, as runtime/analysis/races.py takes it: a gather reads its whole table.
struct Access {
    Space space = Space::spad;
    bool writes = false;
    Affine address, stride, rows;
    std::int64_t row_bytes = 0;
};

struct InstructionDescription {
    int pc = 0;
    std::string kind;
    std::vector<std::int64_t> counts;  // iterations of the loops around it, outermost first
    int partner = -1;                  // of a loop its end, of an end its loop, as positions in the description
    std::map<std::string, std::int64_t> numbers;
    std::map<std::string, std::string> choices;
    std::map<std::string, Operand> operands;
    std::map<std::string, Affine> registers;
    Job job;
    TaintRule taint;
    std::vector<Access> accesses;  // in the order of the table of accesses; constants are left out, nothing writes them

    int number(const std::string& name) const { return static_cast<int>(find(numbers, name)); }
    const std::string& choice(const std::string& name) const { return find(choices, name); }
    const Operand& operand(const std::string& name) const { return find(operands, name); }
    const Operand* optional_operand(const std::string& name) const {
        const auto found = operands.find(name);
        return found == operands.end() ? nullptr : &found->second;
    }
    const Affine& in_register(const std::string& name) const { return find(registers, name); }

private:
    template <typename Value>
    const Value& find(const std::map<std::string, Value>& values, const std::string& name) const {
        const auto found = values.find(name);
        if (found == values.end()) {
            throw BadDescription("instruction " + std::to_string(pc) + " (" + kind + "): '" + name + "' is missing");
        }
        return found->second;
    }
};

struct ProgramDescription {
    std::int64_t spad = 0, wbuf = 0, acc = 0, writable = 0;
    const std::uint8_t* constants = nullptr;  // must outlive the program
    std::int64_t constants_size = 0;
    int tile_rows = 0;
    std::int64_t queue_depth = 0;
    std::string family;  // of kernels; empty: the fastest that runs here
    std::map<int, std::vector<std::uint8_t>> exponentials;  // by their bits: unsigned integers of as many
    std::vector<InstructionDescription> instructions;
};

}  // namespace sta
