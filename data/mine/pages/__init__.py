"""Pages of a crawl as shards and tables, and their signatures for finding near-duplicates."""
