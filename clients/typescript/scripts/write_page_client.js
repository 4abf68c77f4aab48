import { writeFileSync } from "node:fs";
import { PAGE_CLIENT, pageClient } from "./page_client.js";

writeFileSync(PAGE_CLIENT, await pageClient());
