#include "analysis/trace.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace sta {
namespace {

// Bytes that are written at a time.
constexpr std::size_t part_bytes = 1 << 20;
// Most letters of an event but for names, and of all arrows of an instruction.
constexpr std::size_t longest_event = 400;
constexpr std::size_t longest_arrows = 2 * most_semaphores * longest_event;
constexpr int first_unit_track = 2;

struct Arrow {
    std::int64_t number;
    int semaphore;
};

// The arrows at each row, in the order of their numbers.
class Arrows {
public:
    template <typename RowOf>
    Arrows(std::size_t rows, const std::vector<Handover>& met, const RowOf& row_of) : first_(rows + 1) {
        for (const Handover& handover : met) ++first_[static_cast<std::size_t>(row_of(handover)) + 1];
        for (std::size_t row = 0; row < rows; ++row) first_[row + 1] += first_[row];
        std::vector<std::size_t> next(first_.begin(), first_.end() - 1);
        arrows_.resize(met.size());
        for (std::size_t number = 0; number < met.size(); ++number) {
            const auto row = static_cast<std::size_t>(row_of(met[number]));
            arrows_[next[row]++] = {static_cast<std::int64_t>(number), met[number].semaphore};
        }
    }

    const Arrow* begin(std::size_t row) const { return arrows_.data() + first_[row]; }
    const Arrow* end(std::size_t row) const { return arrows_.data() + first_[row + 1]; }

private:
    std::vector<std::size_t> first_;
    std::vector<Arrow> arrows_;
};

// Text on its way. What one event adds is small next to the room that there always is for it.
class Text {
public:
    // Takes at most `longest` letters between two calls of pass_on_if_full.
    Text(const std::function<void(std::string_view)>& write, std::size_t longest)
        : write_(write), text_(part_bytes + longest), end_(text_.data()) {}

    Text& operator<<(std::string_view text) {
        std::memcpy(end_, text.data(), text.size());
        end_ += text.size();
        return *this;
    }
    template <std::size_t size>
    Text& operator<<(const char (&text)[size]) {
        std::memcpy(end_, text, size - 1);
        end_ += size - 1;
        return *this;
    }
    Text& operator<<(std::int64_t number) {
        end_ = std::to_chars(end_, end_ + longest_number, number).ptr;
        return *this;
    }
    // As Python writes the quotient by 1000, which has so few digits that it is the shortest way to write it.
    Text& microseconds(std::int64_t nanoseconds) {
        *this << nanoseconds / 1000;
        const auto rest = static_cast<int>(nanoseconds % 1000);
        *end_++ = '.';
        *end_++ = static_cast<char>('0' + rest / 100);
        if (rest % 100) *end_++ = static_cast<char>('0' + rest / 10 % 10);
        if (rest % 10) *end_++ = static_cast<char>('0' + rest % 10);
        return *this;
    }

    void pass_on_if_full() {
        if (end_ - text_.data() >= static_cast<std::ptrdiff_t>(part_bytes)) pass_on();
    }
    void pass_on() {
        write_({text_.data(), static_cast<std::size_t>(end_ - text_.data())});
        end_ = text_.data();
    }

private:
    static constexpr int longest_number = 20;

    const std::function<void(std::string_view)>& write_;
    std::vector<char> text_;
    char* end_;
};

void write_arrow(Text& text, const char (&phase)[2], const Arrow& arrow, std::int64_t time, std::int64_t track) {
    text << ",\n{\"name\":\"semaphore " << static_cast<std::int64_t>(arrow.semaphore)
         << "\",\"cat\":\"semaphore\",\"ph\":\"" << phase << "\",\"id\":" << arrow.number << ",\"ts\":";
    text.microseconds(time) << ",\"pid\":1,\"tid\":" << track;
}

void write_units(const Run& run, const TraceDescription& trace, Text& text) {
    std::vector<std::uint8_t> is_shown(run.size());
    for (std::size_t index = 0; index < trace.shown; ++index) is_shown[static_cast<std::size_t>(run.order[index])] = 1;
    std::vector<Handover> met = handovers(run);
    std::erase_if(met, [&](const Handover& handover) { return !is_shown[static_cast<std::size_t>(handover.wait)]; });
    const Arrows arrows_in(run.size(), met, [](const Handover& handover) { return handover.wait; });
    const Arrows arrows_out(run.size(), met, [](const Handover& handover) { return handover.post; });
    for (std::size_t index = 0; index < trace.shown; ++index) {
        const auto row = static_cast<std::size_t>(run.order[index]);
        const auto pc = static_cast<std::size_t>(run.pc[row]);
        const std::int64_t track = first_unit_track + run.unit[row];
        text << trace.begins[pc];
        text.microseconds(trace.start[row]) << ",\"dur\":";
        text.microseconds(trace.end[row] - trace.start[row]) << trace.ends[pc] << trace.idle[row] << "}}";
        for (const Arrow* arrow = arrows_in.begin(row); arrow != arrows_in.end(row); ++arrow) {
            write_arrow(text, "f", *arrow, trace.start[row], track);
            text << ",\"bp\":\"e\"}";
        }
        for (const Arrow* arrow = arrows_out.begin(row); arrow != arrows_out.end(row); ++arrow) {
            write_arrow(text, "s", *arrow, trace.leaves[row], track);
            text << "}";
        }
        text.pass_on_if_full();
    }
}

// What the sequencer does: what it issues of one module in a row, and what stalls it.
void write_sequencer(const Run& run, const TraceDescription& trace, Text& text) {
    const auto module_of = [&](std::size_t row) { return trace.module_of_pc[static_cast<std::size_t>(run.pc[row])]; };
    const auto slice = [&](std::size_t row, std::string_view name, std::int64_t start, std::int64_t end) -> Text& {
        text << ",\n{\"name\":\"" << trace.modules[static_cast<std::size_t>(module_of(row))] << name
             << "\",\"cat\":\"sequencer\",\"ph\":\"X\",\"ts\":";
        text.microseconds(start) << ",\"dur\":";
        return text.microseconds(end - start) << ",\"pid\":1,\"tid\":1,\"args\":{";
    };
    std::size_t first = 0;
    for (std::size_t row = 0; row < trace.issued; ++row) {
        const bool stalls = run.entered[row] > run.ready[row];
        const bool goes_on = !stalls && row + 1 < trace.issued && module_of(row + 1) == module_of(row);
        if (goes_on) continue;
        const auto rows = static_cast<std::int64_t>(row - first) + 1;
        slice(first, "issue", trace.issue_begins[first], trace.issue_ends[row]) << "\"instructions\":" << rows << "}}";
        if (stalls) {
            const std::string& reason = trace.reasons[static_cast<std::size_t>(run.unit[row])];
            slice(first, reason, trace.issue_ends[row], trace.stall_ends[row]) << "\"pc\":" << run.pc[row] << "}}";
        }
        first = row + 1;
        text.pass_on_if_full();
    }
}

}  // namespace

void write_trace(const Run& run, const TraceDescription& trace, const std::function<void(std::string_view)>& write) {
    const auto code_size = static_cast<std::size_t>(run.program.code_size());
    bool fits = trace.begins.size() >= code_size && trace.ends.size() >= code_size && trace.module_of_pc.size >= code_size;
    for (std::size_t pc = 0; fits && pc < code_size; ++pc) {
        fits = trace.module_of_pc[pc] >= 0 && trace.module_of_pc[pc] < static_cast<std::int64_t>(trace.modules.size());
    }
    for (const Column* column : {&trace.start, &trace.end, &trace.leaves, &trace.idle}) fits = fits && column->size == run.size();
    fits = fits && trace.shown <= run.order.size && trace.issued <= run.size() && trace.reasons.size() == run.units() + 1;
    for (const Column* column : {&trace.issue_begins, &trace.issue_ends, &trace.stall_ends}) {
        fits = fits && column->size >= trace.issued;
    }
    if (!fits) throw BadDescription("a trace of another program");
    std::size_t longest_name = 0;
    for (const std::vector<std::string>* names : {&trace.begins, &trace.ends, &trace.modules, &trace.reasons}) {
        for (const std::string& name : *names) longest_name = std::max(longest_name, name.size());
    }
    Text text(write, longest_event + longest_arrows + 4 * longest_name);
    write_units(run, trace, text);
    write_sequencer(run, trace, text);
    text.pass_on();
}

}  // namespace sta
