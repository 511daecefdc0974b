// The native engine under libFuzzer, with AddressSanitizer and UndefinedBehaviorSanitizer.
//
// An input is the description of a program: what runtime/native_engine.py would say of a container, in bytes (written by
// tests/fuzz/native_inputs.py). Whatever the bytes are, the engine must refuse them or run them: on the family of kernels
// that the input names and on the portable one, which must leave the same bits. Nothing here is checked before the engine
// checks it, but for the length of a run and the size of memories, which the validator limits.
//
// An execution is a program that the engine has accepted and run to its halt or to an instruction that fails. Both
// families together count once, and so does a program without an instruction of a unit not at all.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "analysis/races.h"
#include "analysis/taint.h"
#include "analysis/timing.h"
#include "instructions/instruction.h"
#include "program/program.h"
#include "tables.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

using namespace sta;

constexpr std::size_t header_bytes = 16;
constexpr std::size_t record_bytes = 176;
constexpr std::size_t most_records = 32;
// Of memories, so that an execution is short.
constexpr int largest_memory = 1 << 14;
constexpr std::int64_t most_steps = 2000, most_work = 1 << 19;
constexpr std::size_t most_races = 8;
// A run that is stopped from outside has no last word.
constexpr std::uint64_t inputs_between_reports = 1 << 18;

struct Counts {
    std::uint64_t inputs = 0, refused = 0, too_long = 0, idle = 0, halted = 0, failed = 0;
    std::map<std::string, std::uint64_t> families;

    ~Counts() { print(); }

    void print() const {
        std::fprintf(stderr,
                     "executions: %llu (halted %llu, failed %llu), of which by family:",
                     static_cast<unsigned long long>(halted + failed), static_cast<unsigned long long>(halted),
                     static_cast<unsigned long long>(failed));
        for (const auto& [family, count] : families) {
            std::fprintf(stderr, " %s %llu", family.c_str(), static_cast<unsigned long long>(count));
        }
        std::fprintf(stderr, "; inputs: %llu, refused %llu, too long %llu, idle %llu\n",
                     static_cast<unsigned long long>(inputs),
                     static_cast<unsigned long long>(refused), static_cast<unsigned long long>(too_long),
                     static_cast<unsigned long long>(idle));
    }
};

Counts counts;

// Reads an input from front to back; beyond its end there are zeros.
class Reader {
public:
    Reader(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

    int byte() { return position_ < size_ ? data_[position_++] : 0; }
    int word() {
        const int low = byte();
        return low | byte() << 8;
    }
    int signed_word() { return static_cast<std::int16_t>(word()); }

private:
    const std::uint8_t* data_;
    std::size_t size_, position_ = 0;
};

// Up to `most` terms.
Affine affine(Reader& reader, int most) {
    Affine value{reader.word(), {}};
    for (int i = 0; i < most; ++i) {
        const int depth = reader.byte(), step = reader.signed_word();
        if (step) value.terms.emplace_back(depth, step);
    }
    return value;
}

// Most addresses are brought into their memory: otherwise hardly any program would run.
void bring_inside(const ProgramDescription& program, const InstructionDescription& instruction, Operand& operand) {
    const auto reach = [&](const Affine& value) {
        std::int64_t low = 0, high = 0;
        for (const auto& [depth, step] : value.terms) {
            if (depth < 0 || depth >= static_cast<int>(instruction.counts.size())) return std::int64_t{1} << 40;
            const std::int64_t span = step * std::max<std::int64_t>(instruction.counts[static_cast<std::size_t>(depth)] - 1, 0);
            (span < 0 ? low : high) += span;
        }
        return low < 0 ? std::int64_t{1} << 40 : high;
    };
    const std::int64_t extent = reach(operand.address) + operand.row_bytes +
                                (operand.rows - 1) * (operand.stride.base + reach(operand.stride));
    const std::int64_t room = program.machine.size_of(operand.space) - extent;
    if (room >= 0 && operand.address.base > room) operand.address.base %= room + 1;
}

void read_operands(Reader& reader, const ProgramDescription& program, const std::vector<Extent>& extents,
                   InstructionDescription& instruction) {
    for (const Extent& extent : extents) {
        const int flags = reader.byte();
        NamedOperand operand;
        operand.name = extent.name;
        operand.writes = extent.writes;
        operand.space = extent.spaces[static_cast<std::size_t>(flags & 3) % extent.spaces.size()];
        operand.rows = extent.rows;
        operand.row_bytes = extent.row_bytes;
        operand.address = affine(reader, 2);
        operand.stride = affine(reader, 1);
        if (extent.lie == Rows::adjacent) operand.stride = {extent.row_bytes, {}};
        if (extent.lie == Rows::apart) operand.stride.base = std::max(operand.stride.base, extent.row_bytes);
        if (!(flags & 0x80)) bring_inside(program, instruction, operand);
        // An operand that is not what the sizes say must be refused.
        if ((flags & 0x70) == 0x70) ++operand.rows;
        instruction.operands.push_back(operand);
    }
}

void read_rules(Reader& reader, InstructionDescription& instruction) {
    Job& job = instruction.job;
    job.unit = reader.byte();
    job.busy = reader.word();
    job.latency = reader.word();
    job.waits = static_cast<std::uint32_t>(reader.word());
    job.posts = static_cast<std::uint32_t>(reader.word());
    const int flags = reader.byte(), sources = reader.byte(), results = reader.byte(), may_leave = reader.byte();
    TaintRule& rule = instruction.taint;
    rule.transfers = flags & 1;
    rule.always = flags & 2;
    rule.never = flags & 4;
    job.may_be_one_piece = flags & 8;
    if (const Operand* dram = instruction.optional_operand("dram"); dram && job.may_be_one_piece) {
        job.stride = dram->stride;
        job.row_bytes = dram->row_bytes;
        job.busy_in_one_piece = job.busy / 2;
    }
    int bit = 1;
    for (const Operand& operand : instruction.operands) {
        if (sources & bit) rule.sources.push_back(operand);
        if (results & bit) rule.results.push_back({operand, (may_leave & bit) != 0});
        bit <<= 1;
    }
}

void read_fields(Reader& reader, const Kind& kind, InstructionDescription& instruction) {
    for (const Number& number : kind.numbers) {
        const int value = number.highest > 255 ? reader.word() : reader.byte();
        instruction.numbers[number.name] = value;
    }
    for (const Choice& choice : kind.choices) {
        instruction.choices[choice.name] = choice.options[static_cast<std::size_t>(reader.byte()) % choice.options.size()];
    }
    for (const std::string& name : kind.registers) instruction.registers[name] = affine(reader, 1);
}

// Work that a program would do, in bytes and products, and the number of its steps.
struct Cost {
    std::int64_t steps = 0, work = 0;
};

void add_cost(const InstructionDescription& instruction, Cost& cost) {
    std::int64_t executions = 1, bytes = 64;
    for (const std::int64_t count : instruction.counts) executions = std::min(executions * count, most_steps + 1);
    for (const Operand& operand : instruction.operands) bytes += operand.rows * operand.row_bytes;
    if (instruction.numbers.contains("depth")) {
        bytes += std::int64_t{instruction.number("rows")} * instruction.number("columns") * instruction.number("depth") / 4;
    }
    cost.steps += executions;
    cost.work += executions * bytes;
}

class Input {
public:
    Input(const std::uint8_t* data, std::size_t size) {
        Reader reader(data, std::min(size, header_bytes));
        const std::vector<const Kernels*>& all = families();
        family_ = all[static_cast<std::size_t>(reader.byte()) % all.size()];
        poison_ = static_cast<std::uint8_t>(reader.byte());
        MachineDescription& machine = program_.machine;
        machine.units = unit_count;
        machine.tile_rows = reader.byte();
        machine.queue_depth = 1 + reader.byte();
        const std::size_t records = static_cast<std::size_t>(reader.byte()) % (most_records + 1);
        reader.byte();
        for (std::int64_t* memory : {&machine.spad, &machine.wbuf, &machine.acc, &machine.writable}) {
            *memory = reader.word() % (largest_memory + 1);
        }
        const std::size_t constants = static_cast<std::size_t>(reader.word()) % (largest_memory + 1);
        const std::size_t code_end = std::min(size, header_bytes + record_bytes * records);
        constants_.assign(data + code_end, data + std::min(size, code_end + constants));
        constants_.resize(constants);
        // No room to spare, so that a read beyond the end is seen.
        constants_.shrink_to_fit();
        inputs_.assign(data + std::min(size, code_end + constants), data + size);
        machine.constants = constants_.data();
        machine.constants_size = static_cast<std::int64_t>(constants_.size());
        for (std::size_t start = header_bytes; start + record_bytes <= code_end; start += record_bytes) {
            add(Reader(data + start, record_bytes));
        }
        while (!open_.empty()) close();
        instruction("halt");
    }

    ProgramDescription& program() { return program_; }
    const Kernels* family() const { return family_; }
    std::uint8_t poison() const { return poison_; }
    const std::vector<std::uint8_t>& inputs() const { return inputs_; }

    bool is_idle() const {
        return std::all_of(program_.instructions.begin(), program_.instructions.end(),
                           [](const InstructionDescription& one) { return one.operands.empty(); });
    }

    Cost cost() const {
        Cost cost;
        for (const InstructionDescription& one : program_.instructions) add_cost(one, cost);
        return cost;
    }

private:
    void add_exponentials(int bits) {
        std::vector<std::uint8_t>& results = program_.exponentials[bits];
        if (!results.empty()) return;
        if (bits == 8) results.assign(std::begin(exponentials_8), std::end(exponentials_8));
        else results.assign(std::begin(exponentials_16), std::end(exponentials_16));
    }

    InstructionDescription& instruction(const std::string& name) {
        const int pc = static_cast<int>(program_.instructions.size());
        InstructionDescription& added = program_.instructions.emplace_back(pc, name);
        added.counts = counts_;
        return added;
    }

    void close() {
        const int start = open_.back();
        open_.pop_back();
        counts_.pop_back();
        InstructionDescription& end = instruction("end");
        InstructionDescription& loop = program_.instructions[static_cast<std::size_t>(start)];
        end.partner = start;
        end.numbers["count"] = loop.numbers["count"];
        loop.partner = end.pc;
    }

    void add(Reader reader) {
        const Kind& kind = kinds[static_cast<std::size_t>(reader.byte()) % kinds.size()];
        InstructionDescription added(static_cast<int>(program_.instructions.size()), kind.name);
        added.counts = counts_;
        if (added.role == Role::end) {
            if (!open_.empty()) close();
            return;
        }
        if (added.role == Role::loop) {
            added.numbers["count"] = reader.byte();
            open_.push_back(added.pc);
            counts_.push_back(added.numbers["count"]);
        }
        if (added.role == Role::unit) {
            read_fields(reader, kind, added);
            read_operands(reader, program_, added.type->extents(added), added);
            read_rules(reader, added);
        }
        if (added.choices.contains("probability_bits")) add_exponentials(std::stoi(added.choice("probability_bits")));
        program_.instructions.push_back(std::move(added));
    }

    const Kernels* family_;
    std::uint8_t poison_;
    ProgramDescription program_;
    std::vector<std::uint8_t> constants_, inputs_;
    std::vector<int> open_;
    std::vector<std::int64_t> counts_;
};

void check_slack(const Bytes& memory) {
    for (std::size_t i = 0; i < slack_bytes; ++i) {
        if (memory.data()[memory.size() + i] == 0) continue;
        std::fprintf(stderr, "a write %zu bytes beyond the end of a memory\n", i);
        std::abort();
    }
}

// The walks through a run that do not depend on data: taint, cycles, races.
void walk(const Program& program) {
    const auto look = [] {};
    scores_stay_on_chip(program, look);
    const std::optional<Schedule> schedule = record(program, look);
    if (!schedule) return;
    const auto column = [](const std::vector<std::int64_t>& values) { return Column{values.data(), values.size()}; };
    const Run run(program, {column(schedule->pc), column(schedule->unit), column(schedule->ready),
                            column(schedule->entered), column(schedule->start), column(schedule->end),
                            column(schedule->complete), column(schedule->order)});
    const std::optional<Clocks> clocks = clocks_before(run);
    if (clocks) check_races(run, *clocks, most_races, look);
}

// What a run leaves.
struct Outcome {
    Outcome(Input& input, const char* family) {
        input.program().family = family;
        const Program program(input.program());
        // Beside a run on one thread, some on two. To start one takes as long as a run.
        const bool is_other = family != portable_kernels.name;
        machine = program.machine(is_other && input.poison() % 4 == 0 ? 2 : 1);
        run(input, program, true);
        if (progress == Progress::uncertain) run(input, program, false);
        position = machine->position;
        machine->wbuf.settled();
        for (const Bytes* memory : {&machine->spad, &machine->acc, &machine->writable}) check_slack(*memory);
        if (is_other) walk(program);
    }

    void run(Input& input, const Program& program, bool goes_ahead) {
        machine->reset(input.poison(), goes_ahead);
        std::copy_n(input.inputs().begin(), std::min(input.inputs().size(), machine->writable.size()),
                    machine->writable.data());
        progress = Progress::running;
        while (progress == Progress::running) progress = program.advance(*machine, std::chrono::seconds(1));
    }

    std::unique_ptr<Machine> machine;
    Progress progress;
    std::size_t position;
};

void check_same(const char* what, const void* left, const void* right, std::size_t size) {
    if (size == 0 || std::memcmp(left, right, size) == 0) return;
    std::fprintf(stderr, "two families of kernels differ in %s\n", what);
    std::abort();
}

void check_same_end(const Outcome& left, const Outcome& right) {
    if (left.progress != right.progress || left.position != right.position) {
        std::fprintf(stderr, "two families of kernels end differently\n");
        std::abort();
    }
}

void check_same(Outcome& left, Outcome& right) {
    Machine &a = *left.machine, &b = *right.machine;
    check_same("spad", a.spad.data(), b.spad.data(), a.spad.size());
    check_same("wbuf", a.wbuf.settled(), b.wbuf.settled(), a.wbuf.size());
    check_same("acc", a.acc.data(), b.acc.data(), a.acc.size());
    check_same("writable", a.writable.data(), b.writable.data(), a.writable.size());
    check_same("the row sums", a.sums.data(), b.sums.data(), 8 * a.sums.size());
    check_same("the row sums of squares", a.squares.data(), b.squares.data(), 8 * a.squares.size());
}

// Loads and stores of whole records: instructions are moved, doubled, dropped and changed, constants are changed.
std::size_t mutate_records(std::uint8_t* data, std::size_t size, std::size_t most, std::mt19937& random) {
    const std::size_t records = std::min<std::size_t>(data[4] % (most_records + 1), (size - header_bytes) / record_bytes);
    const auto below = [&](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
    const auto record = [&](std::size_t index) { return data + header_bytes + index * record_bytes; };
    if (records == 0) return LLVMFuzzerMutate(data, size, most);
    const std::size_t chosen = below(records), other = below(records);
    std::uint8_t* after = record(chosen + 1);
    const std::size_t behind = static_cast<std::size_t>(data + size - after);
    switch (below(6)) {
        case 0:
            if (size + record_bytes > most || records == most_records) return size;
            std::memmove(after + record_bytes, after, behind);
            std::memcpy(after, record(other), record_bytes);
            data[4] = static_cast<std::uint8_t>(records + 1);
            return size + record_bytes;
        case 1:
            std::memmove(record(chosen), after, behind);
            data[4] = static_cast<std::uint8_t>(records - 1);
            return size - record_bytes;
        case 2: std::swap_ranges(record(chosen), record(chosen) + record_bytes, record(other)); return size;
        case 3: LLVMFuzzerMutate(data, header_bytes, header_bytes); return size;
        case 4: {
            std::uint8_t* constants = record(records);
            const auto length = static_cast<std::size_t>(data + size - constants);
            return size - length + LLVMFuzzerMutate(constants, length, most - (size - length));
        }
        default: LLVMFuzzerMutate(record(chosen), record_bytes, record_bytes); return size;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (++counts.inputs % inputs_between_reports == 0) counts.print();
    try {
        Input input(data, size);
        const Cost cost = input.cost();
        if (cost.steps > most_steps || cost.work > most_work) {
            ++counts.too_long;
            return -1;
        }
        Outcome run(input, input.family()->name);
        if (input.family() != &portable_kernels) {
            Outcome portable(input, portable_kernels.name);
            check_same_end(run, portable);
            // An instruction that fails may leave anything where its result goes.
            if (run.progress == Progress::halted) check_same(run, portable);
        }
        if (input.is_idle()) {
            ++counts.idle;
            return 0;
        }
        ++(run.progress == Progress::halted ? counts.halted : counts.failed);
        ++counts.families[input.family()->name];
    } catch (const BadDescription&) {
        ++counts.refused;
    }
    return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
    std::mt19937 random(seed);
    if (size < header_bytes + record_bytes || random() % 8 == 0) return LLVMFuzzerMutate(data, size, most);
    return mutate_records(data, size, most, random);
}
