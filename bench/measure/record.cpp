#include "bench/measure/record.h"

#include <sys/utsname.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>

namespace bench {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char ch : text) {
    if (ch == '"' || ch == '\\') out += '\\';
    if (static_cast<unsigned char>(ch) >= 0x20) out += ch;
  }
  return out + "\"";
}

std::string text_of(const View& view) {
  std::string text = "(";
  for (size_t d = 0; d < view.shape.size(); ++d) text += (d ? ", " : "") + std::to_string(view.shape[d]);
  text += ") by (";
  for (size_t d = 0; d < view.strides.size(); ++d) text += (d ? ", " : "") + std::to_string(view.strides[d]);
  return text + ")";
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

std::string cache(int index) {
  std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/size");
  std::string size;
  file >> size;
  return size;
}

std::string load_average() {
  std::ifstream file("/proc/loadavg");
  std::string load;
  file >> load;
  return load;
}

std::string utc() {
  const std::time_t t = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&t));
  return text;
}

}  // namespace

Record::Record(std::string form) : form_(std::move(form)), start_(utc() + ", load " + load_average()) {}

void Record::add(const Case& c, const Traffic& moved, const std::vector<Timing>& timings,
                 const std::string& explain) {
  std::ostringstream out;
  out.precision(6);
  out << "{\"id\":" << quoted(c.id) << ",\"group\":" << quoted(c.group) << ",\"dtype\":\""
      << short_name(c.dtype) << "\",\"n\":" << c.numel() << ",\"bytes\":" << moved.bytes
      << ",\"reads\":" << moved.reads << ",\"writes\":" << moved.writes;
  if (!c.target.empty()) out << ",\"target\":" << quoted(c.target);
  if (!explain.empty()) out << ",\"explain\":" << quoted(explain);
  if (c.group == "random") {
    constexpr const char* kNames[] = {"grad_output", "input", "target", "weight", "grad_input", "loss"};
    for (const int o : {kG, kX, kY, kOut}) out << ",\"" << kNames[o] << "\":" << quoted(text_of(c.view[o]));
  }
  out << ",\"seconds\":{";
  double ours = 0, ceiling = 0;
  for (size_t i = 0; i < timings.size(); ++i) {
    const Timing& t = timings[i];
    out << (i ? "," : "") << quoted(t.name) << ":{\"median\":" << t.median << ",\"q1\":" << t.q1
        << ",\"q3\":" << t.q3 << ",\"min\":" << t.min << ",\"samples\":" << t.samples
        << ",\"calls\":" << t.calls << "}";
    if (t.name == "mseloss") ours = t.median;
    if (t.name.starts_with("ceiling") && (ceiling == 0 || t.median < ceiling)) ceiling = t.median;
  }
  out << "}}";
  entries_.push_back({c.id, c.group, explain, out.str(), ceiling / ours});
  if (c.group != "random") {
    std::printf("%-44s %10.3f us %8.2f GB/s", c.id.c_str(), ours * 1e6, moved.bytes / ours * 1e-9);
    if (ceiling != 0) std::printf("  %5.2f of the ceiling", ceiling / ours);
    std::printf("\n");
    std::fflush(stdout);
  }
}

void Record::fail(const Case& c, const std::string& error) {
  entries_.push_back(
      {c.id, c.group, "",
       "{\"id\":" + quoted(c.id) + ",\"group\":" + quoted(c.group) + ",\"error\":" + quoted(error) + "}", 0});
}

void Record::print_worst(const std::string& group, int count) const {
  std::vector<const Entry*> worst;
  for (const Entry& entry : entries_) {
    if (entry.group == group) worst.push_back(&entry);
  }
  std::sort(worst.begin(), worst.end(), [](const Entry* a, const Entry* b) { return a->ratio < b->ratio; });
  if (worst.empty()) return;
  std::printf("%s: %zu layouts, median %.2f of the ceiling, lowest:\n", group.c_str(), worst.size(),
              worst[worst.size() / 2]->ratio);
  for (int i = 0; i < count && i < static_cast<int>(worst.size()); ++i) {
    std::printf("  %.3f %s: %s\n", worst[i]->ratio, worst[i]->id.c_str(), worst[i]->explain.c_str());
  }
}

void Record::write(const std::string& path) const {
  utsname system{};
  uname(&system);
  const char* commit = std::getenv("MSELOSS_COMMIT");
  std::ofstream out(path);
  out << "{\"schema\":1,\n\"form\":" << quoted(form_)
      << ",\n\"commit\":" << quoted(commit ? commit : "unknown") << ",\n\"start\":" << quoted(start_)
      << ",\n\"end\":" << quoted(utc() + ", load " + load_average())
      << ",\n\"machine\":{\"cpu\":" << quoted(processor()) << ",\"threads\":" << mseloss::max_threads()
      << ",\"pinned\":false,\"l1d\":" << quoted(cache(0)) << ",\"l2\":" << quoted(cache(2))
      << ",\"l3\":" << quoted(cache(3)) << ",\"kernel\":" << quoted(system.release) << "}"
      << ",\n\"versions\":{\"mseloss\":" << quoted(mseloss::version())
      << ",\"compiler\":" << quoted(__VERSION__) << ",\"target\":" << quoted(mseloss::target())
      << "},\n\"cases\":[\n";
  for (size_t i = 0; i < entries_.size(); ++i) out << (i ? ",\n" : "") << entries_[i].json;
  out << "\n]}\n";
}

}  // namespace bench
