#include "analysis/cycle_attribution.h"

#include <algorithm>

namespace sta {
namespace {

enum class Event { issued, starts, complete };

// An event, the row that it happens to (-1: the start of the run), and when.
struct Cause {
    Event event;
    std::int64_t row, time;
};

// Goes through a run from its end to its start.
class Attribution {
public:
    Attribution(const Run& run, int products) : run_(run), products_(static_cast<std::size_t>(products)) {
        const std::vector<Handover> met = handovers(run);
        first_post_.resize(run.size() + 1);
        for (const Handover& handover : met) ++first_post_[static_cast<std::size_t>(handover.wait) + 1];
        for (std::size_t row = 0; row < run.size(); ++row) first_post_[row + 1] += first_post_[row];
        std::vector<std::int32_t> next(first_post_.begin(), first_post_.end() - 1);
        posts_.resize(met.size());
        for (const Handover& handover : met) {
            posts_[static_cast<std::size_t>(next[static_cast<std::size_t>(handover.wait)]++)] = handover.post;
        }
    }

    Charges charges() {
        const auto halt = static_cast<std::int64_t>(run_.size()) - 1;
        Cause now{Event::issued, halt, at(run_.entered, halt)};
        const std::vector<std::int32_t>& rows = run_.rows_of_unit[products_];
        for (auto product = rows.rbegin(); product != rows.rend(); ++product) {
            explain(now, at(run_.end, *product));
            charge(*product, at(run_.start, *product), at(run_.end, *product), false);
            now = {Event::starts, *product, at(run_.start, *product)};
        }
        explain(now, 0);
        std::reverse(found_.end.begin(), found_.end.end());
        std::reverse(found_.row.begin(), found_.row.end());
        std::reverse(found_.issued.begin(), found_.issued.end());
        return std::move(found_);
    }

private:
    static std::int64_t at(const Column& column, std::int64_t row) { return column[static_cast<std::size_t>(row)]; }

    void charge(std::int64_t row, std::int64_t start, std::int64_t end, bool issued) {
        if (end <= start) return;
        found_.end.push_back(end);
        found_.row.push_back(row);
        found_.issued.push_back(issued);
    }

    // Charges the cycles from `since` to `now`, when the event happens, to what it waits for.
    void explain(Cause now, std::int64_t since) {
        while (now.time > since) {
            const Cause cause = cause_of(now);
            // Work is charged to the row that does it, which for a start is not the one that waits.
            const std::int64_t charged = now.event == Event::starts ? cause.row : now.row;
            charge(charged, std::max(cause.time, since), now.time, now.event == Event::issued);
            now = cause;
        }
    }

    // The event that brought an event about.
    Cause cause_of(const Cause& now) const {
        const std::int64_t before = row_before(now.row);
        if (now.event == Event::starts) {
            const auto row = static_cast<std::size_t>(now.row);
            for (std::int32_t index = first_post_[row]; index < first_post_[row + 1]; ++index) {
                const std::int32_t post = posts_[static_cast<std::size_t>(index)];
                if (at(run_.complete, post) == now.time) return {Event::complete, post, now.time};
            }
            if (before >= 0 && at(run_.end, before) == now.time) return {Event::starts, before, at(run_.start, before)};
            return {Event::issued, now.row, now.time};
        }
        if (now.event == Event::complete) {
            // Results complete in order: one may have had to wait for the one before.
            if (before >= 0 && at(run_.complete, before) == now.time) return {Event::complete, before, now.time};
            return {Event::starts, now.row, at(run_.start, now.row)};
        }
        if (now.time == at(run_.ready, now.row)) {
            return {Event::issued, now.row - 1, now.row ? at(run_.entered, now.row - 1) : 0};
        }
        if (is_fence(now.row)) return {Event::complete, last_to_complete(now.row), now.time};
        // The queue was full until the instruction so many places ahead started.
        const std::int64_t place = position(now.row) - run_.program.runs_on().queue_depth;
        return {Event::starts, rows_of(now.row)[static_cast<std::size_t>(place)], now.time};
    }

    const std::vector<std::int32_t>& rows_of(std::int64_t row) const {
        return run_.rows_of_unit[static_cast<std::size_t>(at(run_.unit, row))];
    }

    bool is_fence(std::int64_t row) const { return run_.is_fence(static_cast<std::size_t>(row)); }

    std::int64_t position(std::int64_t row) const { return run_.position[static_cast<std::size_t>(row)]; }

    // The row in front of a row in its unit's queue, or -1.
    std::int64_t row_before(std::int64_t row) const {
        if (is_fence(row) || position(row) == 0) return -1;
        return rows_of(row)[static_cast<std::size_t>(position(row)) - 1];
    }

    // A row in front of a fence that is complete only when the fence ends.
    std::int64_t last_to_complete(std::int64_t fence) const {
        std::int64_t latest = -1;
        for (const std::vector<std::int32_t>& rows : run_.rows_of_unit) {
            const auto behind = std::lower_bound(rows.begin(), rows.end(), fence);
            if (behind == rows.begin()) continue;
            const std::int32_t row = *(behind - 1);
            if (latest < 0 || at(run_.complete, row) > at(run_.complete, latest)) latest = row;
        }
        return latest;
    }

    const Run& run_;
    std::size_t products_;
    std::vector<std::int32_t> first_post_, posts_;  // for each row, where the rows begin whose posts it took
    Charges found_;
};

// Sums, over charges in the order of time, the cycles in which a unit works.
void add_concurrent(const Run& run, std::size_t unit, const Charges& charges, const Column& module_of_pc,
                    std::vector<std::int64_t>& sums) {
    const std::vector<std::int32_t>& rows = run.rows_of_unit[unit];
    std::size_t next = 0;
    std::int64_t start = 0;
    for (std::size_t index = 0; index < charges.end.size(); ++index) {
        const std::int64_t end = charges.end[index];
        std::int64_t& sum = sums[static_cast<std::size_t>(
            module_of_pc[static_cast<std::size_t>(run.pc[static_cast<std::size_t>(charges.row[index])])])];
        while (next < rows.size()) {
            const auto row = static_cast<std::size_t>(rows[next]);
            const std::int64_t both = std::min(end, run.end[row]) - std::max(start, run.start[row]);
            if (both > 0) sum += both;
            if (run.end[row] > end) break;
            ++next;
        }
        start = end;
    }
}

}  // namespace

Charges attribute(const Run& run, int products) {
    return Attribution(run, products).charges();
}

ModuleCycles::ModuleCycles(std::size_t modules, std::size_t units)
    : working(modules), idle(units + 1, working), busy(units, working), concurrent(units, working) {}

ModuleCycles cycles_of_modules(const Run& run, int products, const Charges& charges, const Column& module_of_pc,
                               std::size_t modules) {
    bool fits = module_of_pc.size >= static_cast<std::size_t>(run.program.code_size());
    for (std::size_t pc = 0; fits && pc < module_of_pc.size; ++pc) {
        fits = module_of_pc[pc] >= 0 && module_of_pc[pc] < static_cast<std::int64_t>(modules);
    }
    if (!fits) throw BadDescription("instructions without a module");
    const auto module_of = [&](std::size_t row) {
        return static_cast<std::size_t>(module_of_pc[static_cast<std::size_t>(run.pc[row])]);
    };
    ModuleCycles cycles(modules, run.units());
    for (std::size_t row = 0; row < run.size(); ++row) {
        if (!run.is_fence(row)) cycles.busy[static_cast<std::size_t>(run.unit[row])][module_of(row)] += run.end[row] - run.start[row];
    }
    std::int64_t start = 0;
    for (std::size_t index = 0; index < charges.end.size(); ++index) {
        const auto row = static_cast<std::size_t>(charges.row[index]);
        const bool issued = charges.issued[index] != 0;
        // A product that is charged beyond its end is charged for its latency.
        const bool works = run.unit[row] == products && !issued && charges.end[index] <= run.end[row];
        const auto cause = static_cast<std::size_t>(issued ? run.program.sequencer() : run.unit[row]);
        (works ? cycles.working : cycles.idle[cause])[module_of(row)] += charges.end[index] - start;
        start = charges.end[index];
    }
    for (std::size_t unit = 0; unit < run.units(); ++unit) {
        add_concurrent(run, unit, charges, module_of_pc, cycles.concurrent[unit]);
    }
    return cycles;
}

}  // namespace sta
