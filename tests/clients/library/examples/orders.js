// A line per order, kept up to date.
import { table } from "./client.js";

const list = document.getElementById("orders");
const orders = table("orders", {
  key: "order",
  onChange() {
    const lines = [...orders.rows.values()].map(({ order, status, total }) => {
      const line = document.createElement("li");
      line.textContent = `${order}: ${status}, ${total}`;
      return line;
    });
    list.replaceChildren(...lines);
  },
});
