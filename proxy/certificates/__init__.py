"""HAProxy's certificates: found in a folder, checked, chosen for each of our names, and given to HAProxy."""
