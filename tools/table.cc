#include "table.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "message.h"

namespace xception::cli {
namespace {

std::string number(const char* format, double value, int decimals) {
  std::array<char, 512> text{};  // the largest double has 309 digits
  std::snprintf(text.data(), text.size(), format, decimals, value);
  return text.data();
}

}  // namespace

std::string fixed(double value, int decimals) { return number("%.*f", value, decimals); }

std::string scientific(double value, int decimals) { return number("%.*e", value, decimals); }

std::string csv_row(const std::vector<std::string>& cells) {
  std::string text;
  for (const std::string& cell : cells) {
    text += &cell == &cells.front() ? "" : ",";
    if (cell.find_first_of(",\"\r\n") == std::string::npos) {
      text += cell;
      continue;
    }
    text += '"';
    for (const char c : cell) {
      text += c == '"' ? "\"\"" : std::string(1, c);
    }
    text += '"';
  }
  return text;
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    std::size_t width = text_width(columns_[c].title);
    for (const auto& row : rows_) {
      width = std::max(width, text_width(row[c]));
    }
    widths.push_back(width);
  }
  std::string text;
  const auto line = [&](const auto& cell_of) {
    std::string cells;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const std::string& cell = cell_of(c);
      const std::string space(widths[c] - text_width(cell), ' ');
      cells += (c > 0 ? "  " : "") + (columns_[c].right ? space + cell : cell + space);
    }
    cells.erase(cells.find_last_not_of(' ') + 1);
    text += cells + '\n';
  };
  line([&](std::size_t c) -> const std::string& { return columns_[c].title; });
  for (const auto& row : rows_) {
    line([&](std::size_t c) -> const std::string& { return row[c]; });
  }
  return text;
}

}  // namespace xception::cli
