// A program as Python describes it: instructions with the names and values of their fields, and the memory they access.
//
// Names, choices and operands come from the instruction table (spec/instructions/); nothing here knows how an instruction
// is encoded.

#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace sta {

struct InstructionType;

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
constexpr int space_count = 5;

// Throws BadDescription if there is none of that name.
Space space_called(const std::string& name);

// A rectangle of memory; the addresses of the constants and of the writable part of DRAM each start at 0.
struct Operand {
    Space space = Space::spad;
    Affine address, stride;
    std::int64_t rows = 0, row_bytes = 0;
};

struct NamedOperand : Operand {
    std::string name;
    bool writes = false;
};

// An instruction is described in a way that contradicts the tables it is made from.
class BadDescription : public std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

// One bit for each semaphore.
using Semaphores = std::uint32_t;
constexpr int most_semaphores = std::numeric_limits<Semaphores>::digits;

// What the timing of an instruction of a unit needs.
struct Job {
    int unit = 0;
    std::int64_t busy = 0, latency = 0;
    Semaphores waits = 0, posts = 0;
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

// Who executes an instruction: a unit, or the sequencer in one of these ways.
enum class Role { unit, fence, loop, end, halt };

struct InstructionDescription {
    // Throws BadDescription if there is no instruction of that name.
    InstructionDescription(int its_pc, const std::string& its_name);

    int pc;
    std::string name;
    Role role;
    const InstructionType* type;       // of a unit; otherwise null
    std::vector<std::int64_t> counts;  // iterations of the loops around it, outermost first
    int partner = -1;                  // of a loop its end, of an end its loop, as positions in the description
    std::map<std::string, std::int64_t> numbers;
    std::map<std::string, std::string> choices;
    std::map<std::string, Affine> registers;
    std::vector<NamedOperand> operands;  // in the order of the instruction table
    Job job;
    TaintRule taint;

    int number(const std::string& field) const { return static_cast<int>(find(numbers, field)); }
    bool flag(const std::string& field) const { return number(field) != 0; }
    const std::string& choice(const std::string& field) const { return find(choices, field); }
    const Affine& in_register(const std::string& field) const { return find(registers, field); }
    const Operand& operand(const std::string& role_in_it) const;
    const Operand* optional_operand(const std::string& role_in_it) const;

    // Throws BadDescription.
    [[noreturn]] void refuse(const std::string& reason) const;

private:
    template <typename Value>
    const Value& find(const std::map<std::string, Value>& values, const std::string& field) const {
        const auto found = values.find(field);
        if (found == values.end()) refuse("'" + field + "' is missing");
        return found->second;
    }
};

// What a program runs on.
struct MachineDescription {
    std::int64_t spad = 0, wbuf = 0, acc = 0, writable = 0;
    const std::uint8_t* constants = nullptr;  // must outlive the program
    std::int64_t constants_size = 0;
    int tile_rows = 0;
    int units = 0;
    std::int64_t queue_depth = 0;

    // Bytes of a memory.
    std::int64_t size_of(Space space) const;
};

struct ProgramDescription {
    MachineDescription machine;
    std::string family;  // of kernels; empty: the fastest that runs here
    std::map<int, std::vector<std::uint8_t>> exponentials;  // by their bits: unsigned integers of as many
    std::vector<InstructionDescription> instructions;
};

}  // namespace sta
