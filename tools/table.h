// Columns of text.
#pragma once

#include <string>
#include <vector>

namespace xception::cli {

class Table {
 public:
  struct Column {
    std::string title;
    bool right = false;  // numbers stand to the right
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as there are columns.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  // The titles and the rows, two spaces between columns.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Cells with commas between them, in quotes where a comma, a quote or a line break is inside, as in
// RFC 4180. Without the end of the line.
std::string csv_row(const std::vector<std::string>& cells);

// "1.234" with this many decimals; "1.2e-06" with this many digits behind the point.
std::string fixed(double value, int decimals);
std::string scientific(double value, int decimals);

}  // namespace xception::cli
