"""A run as one page to look at: HTML that needs nothing beside itself, no network and no script."""

from funcnet.runs.report.page import check_report as check_report
from funcnet.runs.report.page import report_page as report_page
from funcnet.runs.report.page import write_report as write_report
