"""Common Crawl files: reading WARC, and a generated mini-web with known answers."""
