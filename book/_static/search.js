/* Excerpts in the search results.
 *
 * Sphinx fetches every page that it found; a page opened from disk may not do that. press.site
 * writes the words of all pages into search-texts.js, which the search page loads as a script.
 */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const results = document.getElementById("search-results");
  const query = new URLSearchParams(window.location.search).get("q");
  if (!results || !query || typeof Search === "undefined" || !window.glassboxTexts) return;
  const [, terms, , highlighted] = Search._parseQuery(query);

  const explain = (item) => {
    const link = item.querySelector("a");
    if (!link || item.querySelector(":scope > .context, :scope > span")) return;
    const [page, hash] = link.getAttribute("href").split("#");
    const text = window.glassboxTexts[page.replace(/\.html$/, "")];
    const summary = text && Search.makeSearchSummary(text, terms, hash ? `#${CSS.escape(hash)}` : "");
    if (!summary) return;
    item.appendChild(summary);
    highlighted.forEach((term) => _highlightText(summary, term, "highlighted"));
  };
  const explainAll = () => results.querySelectorAll("ul.search > li").forEach(explain);
  new MutationObserver(explainAll).observe(results, { childList: true, subtree: true });
  explainAll();
});
